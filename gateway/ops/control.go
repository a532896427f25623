package ops

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"net/url"
	"strconv"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

// tailErrorTrailer carries the error that ended a tail after its first event,
// when the status line has long been sent.
const tailErrorTrailer = "Holdfast-Error"

// failure is the answer to a request that failed.
type failure struct {
	Error string `json:"error"`
}

// controlHandler serves the control socket.
func (s *Server) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.serveStatus)
	mux.HandleFunc("POST /v1/reload", s.serveReload)
	mux.HandleFunc("GET /v1/tail", s.serveTail)
	s.letterRoutes(mux)
	s.verifyRoutes(mux)
	s.ruleRoutes(mux)
	s.replayHandlers(mux)
	if s.devices != nil {
		mux.HandleFunc("GET /v1/devices", s.serveDevices)
		mux.HandleFunc("POST /v1/devices/scan", s.serveScan)
		mux.HandleFunc("POST /v1/devices/write/{output...}", s.serveWrite)
	}
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

func (s *Server) serveStatus(w http.ResponseWriter, _ *http.Request) {
	st := s.gateway.Status()
	st.Reasons = notNil(st.Reasons)
	st.Streams = notNil(st.Streams)
	st.Destinations = notNil(st.Destinations)
	st.Rules = notNil(st.Rules)
	st.Replays = notNil(st.Replays)
	st.MQTT.Listen = notNil(st.MQTT.Listen)
	writeJSON(w, http.StatusOK, st)
}

func (s *Server) serveReload(w http.ResponseWriter, _ *http.Request) {
	// Not the context of the request: a reload that has begun is not given
	// up halfway because the one who asked for it has gone.
	err := s.gateway.Reload(s.ctx)
	var mistakes config.Errors
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.As(err, &mistakes):
		writeJSON(w, http.StatusUnprocessableEntity, failure{err.Error()})
	default:
		writeJSON(w, http.StatusInternalServerError, failure{err.Error()})
	}
}

func (s *Server) serveTail(w http.ResponseWriter, r *http.Request) {
	q, err := parseTailQuery(r.URL.Query())
	if err != nil {
		writeJSON(w, http.StatusBadRequest, failure{err.Error()})
		return
	}
	rc, sent := http.NewResponseController(w), false
	err = s.gateway.Tail(r.Context(), q, func(it Item) error {
		if !sent {
			sent = true
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.Header().Set("Trailer", tailErrorTrailer)
		}
		if _, err := fmt.Fprintf(w, "%s\n", it); err != nil {
			return err
		}
		return rc.Flush()
	})
	if s.ctx.Err() != nil {
		err = errors.New("the gateway is stopping")
	}
	switch {
	case r.Context().Err() != nil && s.ctx.Err() == nil, err == nil:
		// The client has gone, or the gateway has nothing more to send.
	case sent:
		w.Header().Set(tailErrorTrailer, url.QueryEscape(err.Error()))
	default:
		writeJSON(w, http.StatusInternalServerError, failure{err.Error()})
	}
}

// DefaultStream is the stream that holds what came in.
const DefaultStream = "events"

func parseTailQuery(v url.Values) (q TailQuery, err error) {
	q = TailQuery{Stream: v.Get("stream"), Filter: v.Get("filter")}
	if q.Stream == "" {
		q.Stream = DefaultStream
	}
	if q.Filter != "" {
		if err := event.CheckFilter(q.Filter); err != nil {
			return q, err
		}
	}
	if s := v.Get("from"); s != "" {
		if q.From, err = strconv.ParseUint(s, 10, 64); err != nil {
			return q, fmt.Errorf("from: %q is not an offset", s)
		}
	}
	if s := v.Get("last"); s != "" {
		if q.Last, err = strconv.Atoi(s); err != nil || q.Last < 0 {
			return q, fmt.Errorf("last: %q is not a number of events", s)
		}
	}
	if q.From > 0 && q.Last > 0 {
		return q, errors.New("from and last exclude each other")
	}
	return q, nil
}

func (q TailQuery) values() url.Values {
	v := url.Values{}
	if q.Stream != "" {
		v.Set("stream", q.Stream)
	}
	if q.Filter != "" {
		v.Set("filter", q.Filter)
	}
	if q.From > 0 {
		v.Set("from", strconv.FormatUint(q.From, 10))
	}
	if q.Last > 0 {
		v.Set("last", strconv.Itoa(q.Last))
	}
	return v
}
