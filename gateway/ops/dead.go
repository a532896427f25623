package ops

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Undertaker is what this package needs of a gateway that keeps dead letters.
type Undertaker interface {
	// Letters calls send for each open dead letter that the query selects, the
	// oldest first, and ends with those that are there now. It returns the
	// error of send, or why the letters cannot be read.
	Letters(ctx context.Context, q LetterQuery, send func(Letter) error) error
	// RetryLetters moves the letters that the query selects back to pending at
	// the destinations that refused them; PurgeLetters settles them for good.
	// What the result counts as settled is on disk, also after an error.
	RetryLetters(ctx context.Context, q LetterQuery) (LetterResult, error)
	PurgeLetters(ctx context.Context, q LetterQuery) (LetterResult, error)
}

// LetterQuery selects dead letters by everything that is not zero.
type LetterQuery struct {
	ID          uint64 // only this one
	Stream      string // that the event was in
	Destination string // that refused it
	Rule        string // that failed on it
	Reason      string
	Topic       string // filter
	Since       time.Time
	Until       time.Time // of the last attempt, before this time
	Limit       int       // at most so many; 0 means all
}

// Letter is a dead letter.
type Letter struct {
	ID          uint64          `json:"id"`
	Reason      string          `json:"reason"`
	Error       string          `json:"error"`                 // what the destination or the rule said
	Destination string          `json:"destination,omitempty"` // that refused it
	Rule        string          `json:"rule,omitempty"`        // or that failed on it
	Position    string          `json:"position,omitempty"`    // in the file with the rule, as file:line:col
	Stream      string          `json:"stream"`                // that the event is in
	Offset      uint64          `json:"offset"`                // and where
	Attempts    int             `json:"attempts"`
	First       time.Time       `json:"first"` // attempt
	Last        time.Time       `json:"last"`
	Topic       string          `json:"topic"`
	Client      string          `json:"client,omitempty"`
	Key         string          `json:"key"`
	Event       json.RawMessage `json:"event"` // the event as it was
}

// LetterResult says what became of the letters that a query selected.
type LetterResult struct {
	Selected int    `json:"selected"`
	Settled  int    `json:"settled"` // retried or purged
	Skipped  int    `json:"skipped"`
	Why      string `json:"why,omitempty"` // the last was skipped
}

func (s *Server) letterRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/dead", s.serveLetters)
	mux.HandleFunc("POST /v1/dead/retry", s.settleLetters(s.gateway.RetryLetters))
	mux.HandleFunc("POST /v1/dead/purge", s.settleLetters(s.gateway.PurgeLetters))
}

func (s *Server) serveLetters(w http.ResponseWriter, r *http.Request) {
	q, err := parseLetterQuery(r.URL.Query())
	if err != nil {
		writeJSON(w, http.StatusBadRequest, failure{err.Error()})
		return
	}
	sent := false
	begin := func() {
		if !sent {
			sent = true
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.Header().Set("Trailer", tailErrorTrailer)
		}
	}
	err = s.gateway.Letters(r.Context(), q, func(l Letter) error {
		begin()
		b, err := json.Marshal(l)
		if err == nil {
			_, err = w.Write(append(b, '\n'))
		}
		return err
	})
	switch {
	case err == nil:
		begin()
	case sent:
		w.Header().Set(tailErrorTrailer, url.QueryEscape(err.Error()))
	default:
		writeJSON(w, http.StatusBadRequest, failure{err.Error()})
	}
}

// settleLetters is a handler that settles what the query selects.
func (s *Server) settleLetters(settle func(context.Context, LetterQuery) (LetterResult, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := parseLetterQuery(r.URL.Query())
		if err == nil && q == (LetterQuery{}) && r.URL.Query().Get("all") == "" {
			err = errors.New("this would be every dead letter; select some, or say all")
		}
		if err != nil {
			writeJSON(w, http.StatusBadRequest, failure{err.Error()})
			return
		}
		// Not the context of the request: see serveReload.
		result, err := settle(s.ctx, q)
		if err != nil {
			writeJSON(w, http.StatusInternalServerError, failure{err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, result)
	}
}

func parseLetterQuery(v url.Values) (q LetterQuery, err error) {
	q = LetterQuery{
		Stream: v.Get("stream"), Destination: v.Get("destination"), Rule: v.Get("rule"),
		Reason: v.Get("reason"), Topic: v.Get("topic"),
	}
	if s := v.Get("id"); s != "" {
		if q.ID, err = strconv.ParseUint(s, 10, 64); err != nil || q.ID == 0 {
			return q, fmt.Errorf("id: %q is not the number of a dead letter", s)
		}
	}
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 0 {
			return q, fmt.Errorf("limit: %q is not a number of letters", s)
		}
	}
	for name, at := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if s := v.Get(name); s != "" {
			if *at, err = time.Parse(time.RFC3339Nano, s); err != nil {
				return q, fmt.Errorf("%s: %q is not a time as in RFC 3339", name, s)
			}
		}
	}
	return q, nil
}

func (q LetterQuery) values() url.Values {
	v := url.Values{}
	for name, s := range map[string]string{"stream": q.Stream, "destination": q.Destination, "rule": q.Rule, "reason": q.Reason, "topic": q.Topic} {
		if s != "" {
			v.Set(name, s)
		}
	}
	if q.ID > 0 {
		v.Set("id", strconv.FormatUint(q.ID, 10))
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	for name, at := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !at.IsZero() {
			v.Set(name, at.Format(time.RFC3339Nano))
		}
	}
	return v
}

// Letters calls fn with each open dead letter that the query selects.
func (c *Client) Letters(ctx context.Context, q LetterQuery, fn func(Letter) error) error {
	resp, err := c.do(ctx, http.MethodGet, "/v1/dead?"+q.values().Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for lines := bufio.NewReader(resp.Body); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if text, _ := url.QueryUnescape(resp.Trailer.Get(tailErrorTrailer)); text != "" {
				return errors.New(text)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("the connection to the gateway broke: %w", err)
		}
		var l Letter
		if err := json.Unmarshal(bytes.TrimSpace(line), &l); err != nil {
			return fmt.Errorf("read dead letter: %w; are gateway and command of the same version?", err)
		}
		if err := fn(l); err != nil {
			return err
		}
	}
}

// RetryLetters moves the letters that the query selects back to pending. A
// query that selects every letter needs all.
func (c *Client) RetryLetters(ctx context.Context, q LetterQuery, all bool) (LetterResult, error) {
	return c.settleLetters(ctx, "/v1/dead/retry", q, all)
}

// PurgeLetters settles the letters that the query selects for good.
func (c *Client) PurgeLetters(ctx context.Context, q LetterQuery, all bool) (LetterResult, error) {
	return c.settleLetters(ctx, "/v1/dead/purge", q, all)
}

func (c *Client) settleLetters(ctx context.Context, path string, q LetterQuery, all bool) (r LetterResult, err error) {
	v := q.values()
	if all {
		v.Set("all", "1")
	}
	resp, err := c.do(ctx, http.MethodPost, path+"?"+v.Encode())
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return r, fmt.Errorf("read the answer of the gateway: %w", err)
	}
	return r, nil
}
