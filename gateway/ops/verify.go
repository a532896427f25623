package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Verifier is what this package needs of a gateway that can recount its ledger.
type Verifier interface {
	// Verify begins a recount in the background, unless one is under way.
	Verify() error
	// Verification says how far the newest recount is and what it found so
	// far; false if there was none since the start.
	Verification() (Verification, bool)
}

// Verification is a recount of the ledger from the log.
type Verification struct {
	Started  time.Time      `json:"started"`
	Finished time.Time      `json:"finished,omitzero"`
	Error    string         `json:"error,omitempty"` // why it could not be finished
	Done     uint64         `json:"done"`            // of Total offsets
	Total    uint64         `json:"total"`
	Streams  []VerifyStream `json:"streams"` // those that are finished
}

// VerifyStream is what the recount of one stream found.
type VerifyStream struct {
	Name        string   `json:"name"`
	First       uint64   `json:"first"` // the recount covers [First, Next)
	Next        uint64   `json:"next"`
	Events      uint64   `json:"events"`  // that were read back
	Damaged     uint64   `json:"damaged"` // that cannot be read
	Removed     uint64   `json:"removed"` // that retention took meanwhile
	Differences []string `json:"differences"`
}

// Running reports whether the recount goes on.
func (v *Verification) Running() bool { return v.Finished.IsZero() }

// Differences is how many there are.
func (v *Verification) Differences() (n int) {
	for _, s := range v.Streams {
		n += len(s.Differences)
	}
	return n
}

func (s *Server) verifyRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/verify", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.gateway.Verify(); err != nil {
			writeJSON(w, http.StatusInternalServerError, failure{err.Error()})
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /v1/verify", func(w http.ResponseWriter, _ *http.Request) {
		v, ok := s.gateway.Verification()
		if !ok {
			writeJSON(w, http.StatusNotFound, failure{"the ledger has not been recounted since the gateway was started"})
			return
		}
		v.Streams = notNil(v.Streams)
		writeJSON(w, http.StatusOK, v)
	})
}

// Verify has the gateway recount its ledger and returns what it found.
// progress is called now and then. A recount goes on when ctx ends it here.
func (c *Client) Verify(ctx context.Context, every time.Duration, progress func(Verification)) (v Verification, err error) {
	resp, err := c.do(ctx, http.MethodPost, "/v1/verify")
	if err != nil {
		return v, err
	}
	resp.Body.Close()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if v, err = c.verification(ctx); err != nil {
			return v, err
		}
		progress(v)
		if !v.Running() {
			if v.Error != "" {
				return v, errors.New(v.Error)
			}
			return v, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
}

func (c *Client) verification(ctx context.Context) (v Verification, err error) {
	resp, err := c.do(ctx, http.MethodGet, "/v1/verify")
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return v, fmt.Errorf("read the recount: %w", err)
	}
	return v, nil
}
