package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// RuleKeeper changes and shows rules while they run.
type RuleKeeper interface {
	// SetRule enables or disables a rule.
	SetRule(ctx context.Context, name string, enable bool) error
	// RuleState returns what a rule remembers as JSON, of one key if that is
	// not empty.
	RuleState(ctx context.Context, name, key string) (json.RawMessage, error)
}

func (s *Server) ruleRoutes(mux *http.ServeMux) {
	set := func(enable bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if err := s.gateway.SetRule(r.Context(), r.PathValue("name"), enable); err != nil {
				writeJSON(w, http.StatusConflict, failure{err.Error()})
				return
			}
			w.WriteHeader(http.StatusNoContent)
		}
	}
	mux.HandleFunc("POST /v1/rules/{name}/enable", set(true))
	mux.HandleFunc("POST /v1/rules/{name}/disable", set(false))
	mux.HandleFunc("GET /v1/rules/{name}/state", func(w http.ResponseWriter, r *http.Request) {
		state, err := s.gateway.RuleState(r.Context(), r.PathValue("name"), r.URL.Query().Get("key"))
		if err != nil {
			writeJSON(w, http.StatusConflict, failure{err.Error()})
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(state) // as it is: writeJSON would escape < and >
	})
}

// SetRule enables or disables a rule of the gateway.
func (c *Client) SetRule(ctx context.Context, name string, enable bool) error {
	what := "disable"
	if enable {
		what = "enable"
	}
	resp, err := c.do(ctx, http.MethodPost, "/v1/rules/"+url.PathEscape(name)+"/"+what)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// RuleState returns what a rule remembers as indented JSON, of one key if that
// is not empty.
func (c *Client) RuleState(ctx context.Context, name, key string) ([]byte, error) {
	resp, err := c.do(ctx, http.MethodGet, "/v1/rules/"+url.PathEscape(name)+"/state?"+url.Values{"key": {key}}.Encode())
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read the state of the rule %s: %w", name, err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(body), "", "  "); err != nil {
		return nil, fmt.Errorf("read the state of the rule %s: %w", name, err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}
