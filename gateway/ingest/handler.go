package ingest

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"holdfast/gateway/event"
)

// root is the path of all events; a topic follows behind a slash.
const root = "/v1/events"

// handle answers one request.
func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	s.open.Add(1)
	defer s.open.Add(-1)
	n, err := s.take(w, r)
	if s.intake.Err() != nil {
		w.Header().Set("Connection", "close")
	}
	if err == nil {
		s.events.Add(uint64(n))
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, "{\"accepted\":%d}\n", n) // on disk, whether this arrives or not
		return
	}
	var p *problem
	if !errors.As(err, &p) {
		p = problemf(http.StatusServiceUnavailable, "the events could not be stored: %v", err).after(5)
	}
	switch p.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		s.unauthorized.Add(1)
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInsufficientStorage:
		s.refused.Add(1)
	default:
		s.invalid.Add(1)
	}
	p.write(w)
}

// take brings the events of a request to the disk and returns how many.
func (s *Server) take(w http.ResponseWriter, r *http.Request) (int, error) {
	topic, err := topicOf(r.URL)
	if err != nil {
		return 0, err
	}
	if r.Method != http.MethodPost {
		return 0, problemf(http.StatusMethodNotAllowed, "events are sent with POST, not %s", r.Method)
	}
	from, err := s.sender(r)
	if err != nil {
		return 0, err
	}
	if s.intake.Err() != nil {
		return 0, stopping()
	}
	held := &share{of: &s.budget}
	defer held.release()

	// A body that is still arriving does not hold up the end. Afterwards
	// nothing must touch the deadline: it would end the request.
	cut := context.AfterFunc(s.intake, func() { _ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) })
	body, err := s.body(w, r, held)
	cut()
	if err != nil {
		return 0, err
	}
	events, err := s.parse(r, body, topic, from, held)
	if err != nil {
		return 0, err
	}
	return len(events), s.store(r.Context(), events)
}

// parse makes the events of a request, one or a batch.
func (s *Server) parse(r *http.Request, body []byte, topic, from string, held *share) ([]event.Event, error) {
	base := event.Event{
		Topic: topic, Source: "http", Client: from, QoS: 1,
		Trace: traceparent(r.Header.Get("Traceparent")),
	}
	if topic != "" {
		if err := checkTopic(topic); err != nil {
			return nil, problemf(http.StatusBadRequest, "the path: %v", err)
		}
	}
	kind := r.Header.Get("Content-Type")
	switch media, _, _ := mime.ParseMediaType(kind); media {
	case "application/x-ndjson", "application/ndjson":
		b := batch{base: base, max: s.o.MaxEvents, topics: map[string]string{}}
		if err := held.take(b.memory(body)); err != nil {
			return nil, err
		}
		if err := b.read(body); err != nil {
			return nil, err
		}
		return b.events, nil
	}
	if topic == "" {
		return nil, problemf(http.StatusBadRequest,
			"there is no topic: send to %s/TOPIC, or lines with topics as application/x-ndjson", root)
	}
	if len(kind) > maxContentType {
		return nil, problemf(http.StatusBadRequest, "the content type has more than %d bytes", maxContentType)
	}
	base.ContentType, base.Payload = kind, body
	return []event.Event{base}, nil
}

const maxContentType = 256

// store hands the events to the log and waits until they are on disk.
func (s *Server) store(ctx context.Context, events []event.Event) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Patience)
	defer cancel()
	defer context.AfterFunc(s.intake, cancel)()
	stored := make(chan error, 1)
	err := s.emit(ctx, events, func(err error) { stored <- err })
	if err == nil {
		err = <-stored // the log has them: nothing else may be said before it has decided
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrFull):
		return problemf(http.StatusInsufficientStorage, "%v; nothing was taken, send it again later", err).after(30)
	case s.intake.Err() != nil:
		return stopping()
	case errors.Is(err, context.DeadlineExceeded):
		return problemf(http.StatusTooManyRequests, "events come faster than they can be stored").after(1)
	}
	return err
}

// emit calls Emit, unless the intake has stopped.
func (s *Server) emit(ctx context.Context, events []event.Event, done func(error)) error {
	s.emits.RLock()
	defer s.emits.RUnlock()
	if s.intake.Err() != nil {
		return stopping()
	}
	return s.o.Emit(ctx, events, done)
}

func stopping() *problem {
	return problemf(http.StatusServiceUnavailable, "the gateway is stopping").after(5)
}

// topicOf returns the topic that the path names; "" if it names none. A slash
// that is written as %2F separates levels like any other.
func topicOf(u *url.URL) (string, error) {
	path := u.EscapedPath()
	if path == root || path == root+"/" {
		return "", nil
	}
	escaped, ok := strings.CutPrefix(path, root+"/")
	if !ok {
		return "", problemf(http.StatusNotFound, "there is nothing here; events are sent to %s/TOPIC", root)
	}
	topic, err := url.PathUnescape(escaped)
	if err != nil {
		return "", problemf(http.StatusBadRequest, "the path: %v", err)
	}
	return topic, nil
}

const maxLevels = 128

// checkTopic reports what makes a topic name unusable: here just what the
// broker refuses from MQTT clients.
func checkTopic(topic string) error {
	switch {
	case strings.HasPrefix(topic, "$"):
		return fmt.Errorf("%w: %q: topics that begin with $ belong to the gateway", event.ErrTopic, topic)
	case strings.Count(topic, "/") >= maxLevels:
		return fmt.Errorf("%w: it has more than %d levels", event.ErrTopic, maxLevels)
	}
	return event.CheckTopic(topic)
}

// traceparent returns the header if it is one, of version 00 of W3C Trace
// Context, else "": the standard has a wrong one ignored.
func traceparent(h string) string {
	const form = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
	if len(h) != len(form) || !strings.HasPrefix(h, "00-") {
		return ""
	}
	for i := range len(h) {
		hex := h[i] >= '0' && h[i] <= '9' || h[i] >= 'a' && h[i] <= 'f'
		if dash := form[i] == '-'; dash != (h[i] == '-') || !dash && !hex {
			return ""
		}
	}
	if strings.Trim(h[3:35], "0") == "" || strings.Trim(h[36:52], "0") == "" {
		return ""
	}
	return h
}
