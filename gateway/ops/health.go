package ops

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// health is the answer of /healthz.
type health struct {
	State   State    `json:"state"`
	Reasons []string `json:"reasons"`
}

// publicHandler serves health and metrics.
func (s *Server) publicHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusOK, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		state := s.gateway.Status().State
		writeText(w, readiness(state), string(state)+"\n")
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		st := s.gateway.Status()
		writeJSON(w, readiness(st.State), health{st.State, notNil(st.Reasons)})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorLog: metricsLog{s.log},
	}))
	return mux
}

// readiness is the HTTP status of a gateway in the given state. Degraded is
// ready: taking the gateway out of service would make nothing better.
func readiness(s State) int {
	if s == Failed {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

func writeText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	fmt.Fprint(w, text)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the client has gone, or all is well
}

// notNil keeps null out of the JSON that people and scripts read.
func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
