package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// ReplayQuery selects the events of a stream that are sent once more.
type ReplayQuery struct {
	Stream      string    `json:"stream,omitempty"` // empty means events
	Destination string    `json:"destination"`
	Topics      []string  `json:"topics,omitempty"` // filters; none selects all
	From        time.Time `json:"from,omitzero"`    // received then or later
	To          time.Time `json:"to,omitzero"`      // received before
	FromOffset  uint64    `json:"from_offset,omitempty"`
	ToOffset    uint64    `json:"to_offset,omitempty"` // the first one that is not sent
	Rate        int       `json:"rate,omitempty"`      // events a second; 0 is no limit
}

// ReplayState is what a replay is doing.
type ReplayState string

// The states of a replay.
const (
	ReplayRunning  ReplayState = "running"
	ReplayRetrying ReplayState = "retrying" // the last attempt failed
	ReplayWaiting  ReplayState = "waiting"  // its destination does not run
	ReplayDone     ReplayState = "done"
)

// ReplayStatus describes one replay. Of the offsets [First, End) those before
// Next are settled: sent, filtered, refused, missed or damaged. None of it is
// in the ledger of the destination.
type ReplayStatus struct {
	ID          uint64      `json:"id"`
	State       ReplayState `json:"state"`
	Stream      string      `json:"stream"`
	Destination string      `json:"destination"`
	Topics      []string    `json:"topics,omitempty"`
	From        time.Time   `json:"from,omitzero"`
	To          time.Time   `json:"to,omitzero"`
	Rate        int         `json:"rate,omitempty"`
	Created     time.Time   `json:"created"`

	First uint64 `json:"first"`
	End   uint64 `json:"end"`
	Next  uint64 `json:"next"`

	Sent     uint64 `json:"sent"`
	Filtered uint64 `json:"filtered"` // not selected
	Refused  uint64 `json:"refused"`  // by the destination, for good
	Missed   uint64 `json:"missed"`   // removed by retention before they were sent
	Damaged  uint64 `json:"damaged"`
	Pending  uint64 `json:"pending"`

	LastError string `json:"last_error,omitempty"`
}

func (s *Server) replayHandlers(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/replays", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, notNil(s.gateway.Replays()))
	})
	mux.HandleFunc("POST /v1/replays", func(w http.ResponseWriter, r *http.Request) {
		var q ReplayQuery
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
		d.DisallowUnknownFields()
		if err := d.Decode(&q); err != nil {
			writeJSON(w, http.StatusBadRequest, failure{fmt.Sprintf("replay: %v; are gateway and command of the same version?", err)})
			return
		}
		st, err := s.gateway.StartReplay(s.ctx, q)
		if err != nil {
			writeJSON(w, http.StatusConflict, failure{err.Error()})
			return
		}
		writeJSON(w, http.StatusCreated, st)
	})
	mux.HandleFunc("DELETE /v1/replays/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
		if err == nil {
			err = s.gateway.CancelReplay(s.ctx, id)
		}
		answer(w, err)
	})
	mux.HandleFunc("DELETE /v1/destinations/{name}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, s.gateway.ForgetDestination(s.ctx, r.PathValue("name")))
	})
}

// answer is the answer to a request that changes something and returns nothing.
func answer(w http.ResponseWriter, err error) {
	if err != nil {
		writeJSON(w, http.StatusConflict, failure{err.Error()})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// StartReplay begins a replay and returns it.
func (c *Client) StartReplay(ctx context.Context, q ReplayQuery) (st ReplayStatus, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return st, err
	}
	return st, c.exchange(ctx, http.MethodPost, "/v1/replays", body, &st)
}

// Replays returns all replays, oldest first; the last ones that are over too.
func (c *Client) Replays(ctx context.Context) (all []ReplayStatus, err error) {
	return all, c.exchange(ctx, http.MethodGet, "/v1/replays", nil, &all)
}

// CancelReplay ends a replay and takes it off the list.
func (c *Client) CancelReplay(ctx context.Context, id uint64) error {
	return c.exchange(ctx, http.MethodDelete, "/v1/replays/"+strconv.FormatUint(id, 10), nil, nil)
}

// ForgetDestination removes what the gateway keeps of a destination that is
// not configured any more.
func (c *Client) ForgetDestination(ctx context.Context, name string) error {
	if name == "" {
		return errors.New("a destination has a name")
	}
	return c.exchange(ctx, http.MethodDelete, "/v1/destinations/"+url.PathEscape(name), nil, nil)
}

// exchange sends a request and reads the answer into v, unless that is nil.
func (c *Client) exchange(ctx context.Context, method, path string, body []byte, v any) error {
	resp, err := c.request(ctx, method, path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if v == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("read the answer of the gateway: %w; are gateway and command of the same version?", err)
	}
	return nil
}
