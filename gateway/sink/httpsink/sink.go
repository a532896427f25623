// Package httpsink sends batches with HTTP POST: newline-delimited JSON, a JSON
// array or a CloudEvents batch, compressed if wished. What an answer means is
// in [Kind]'s documentation and in judge: only what the far side says about
// the events themselves is blamed on them.
package httpsink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/forward"
)

// Kind is the http sink.
var Kind = forward.Kind{
	Name: "http",
	Doc:  "POSTs batches as NDJSON, a JSON array or CloudEvents to a web service; a 2xx answer means that it has them.",
	Sample: `url: https://ingest.example.com/v1/events
format: ndjson        # or json, cloudevents
compression: gzip     # or zstd, none
headers:
  X-Site: plant-7
bearer: change-me     # better ${INGEST_TOKEN} or ${file:/etc/holdfast/token}
tls:
  ca: /etc/holdfast/ca.pem
  cert: /etc/holdfast/gateway.pem
  key: /etc/holdfast/gateway.key
`,
	New:      New,
	Files:    files,
	Requests: 4,
}

type settings struct {
	URL         string                   `config:"url,required"`
	Format      forward.Format           `config:"format,oneof=ndjson|json|cloudevents"`
	Compression string                   `config:"compression,oneof=gzip|zstd|none"`
	Headers     map[string]config.Secret `config:"headers"`
	Bearer      config.Secret            `config:"bearer"`
	Basic       *struct {
		User     string        `config:"user,required"`
		Password config.Secret `config:"password,required"`
	} `config:"basic"`
	TLS tlsSettings `config:"tls"`
}

// Sink sends batches to one URL over connections that it keeps open.
type Sink struct {
	url    string
	label  string // method and URL as errors show them
	host   string
	header http.Header
	client *http.Client
	// secrets are the credentials that requests carry, the longest first.
	secrets []string
	format  forward.Format
	pack    string

	unanswered atomic.Bool // the last request got no answer
	closed     atomic.Bool

	mu    sync.Mutex
	spare []*packer // not in use; as many as requests were ever under way
}

// packer makes the body of one request at a time.
type packer struct {
	encoder    forward.Encoder
	compressor compressor
	plain      []byte // the batch encoded, reused
}

func (s *Sink) packer() *packer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.spare); n > 0 {
		p := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return p
	}
	return &packer{compressor: newCompressor(s.pack)}
}

func (s *Sink) putBack(p *packer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = append(s.spare, p)
}

// New reads the settings of one destination. It touches neither network nor
// disk; certificates are read when a connection is made.
func New(s *config.Section) (forward.Sink, error) {
	set := settings{Format: forward.NDJSON, Compression: "gzip"}
	var errs config.Errors
	errs.Add(s.Decode(&set))
	u := set.checkURL(s, &errs)
	header := set.checkHeaders(s, &errs)
	set.TLS.check(s, u, &errs)
	if err := errs.Err(); err != nil {
		return nil, err
	}

	dialer := net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &Sink{
		url:     set.URL,
		secrets: set.secrets(header),
		label:   "POST " + shown(u),
		host:    header.Get("Host"),
		header:  header,
		format:  set.Format,
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:               http.ProxyFromEnvironment,
				DialContext:         dialer.DialContext,
				TLSClientConfig:     set.TLS.config(u.Hostname()),
				TLSHandshakeTimeout: 10 * time.Second,
				Protocols:           protocols(),
				MaxIdleConnsPerHost: maxIdle,
				IdleConnTimeout:     90 * time.Second,
				WriteBufferSize:     64 << 10,
				DisableCompression:  true, // of answers, which are only read in part

				ExpectContinueTimeout: 2 * time.Second,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		pack: set.Compression,
	}, nil
}

// maxIdle is more than the requests that are ever under way: each keeps its
// connection.
const maxIdle = 64

// protocols is HTTP/1.1 alone: with a few requests at a time HTTP/2 gains
// nothing, and it hides why a connection failed.
func protocols() *http.Protocols {
	var p http.Protocols
	p.SetHTTP1(true)
	return &p
}

func (set *settings) checkURL(s *config.Section, errs *config.Errors) *url.URL {
	if set.URL == "" {
		return nil // Decode has said so
	}
	u, err := url.Parse(set.URL)
	var wrong *url.Error
	switch {
	case errors.As(err, &wrong):
		errs.Add(s.Errorf("url", "url cannot be read: %v", wrong.Err))
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		errs.Add(s.Errorf("url", "url must begin with https:// or http:// and a host"))
	case u.User != nil:
		errs.Add(s.Errorf("url", "url must not hold a user or password, which would show in logs; use basic"))
	default:
		return u
	}
	return nil
}

// ours are the headers that describe the request as the sink builds it.
var ours = []string{"Connection", "Content-Encoding", "Content-Length", "Expect", "Idempotency-Key", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// checkHeaders returns the headers that are the same in all requests.
func (set *settings) checkHeaders(s *config.Section, errs *config.Errors) http.Header {
	h := http.Header{}
	h.Set("User-Agent", "holdfast")
	h.Set("Content-Type", set.Format.ContentType())
	if set.Compression != "none" {
		h.Set("Content-Encoding", set.Compression)
	}
	for name, value := range set.Headers {
		key, canonical := "headers."+name, http.CanonicalHeaderKey(name)
		switch {
		case !isToken(name):
			errs.Add(s.Errorf(key, "%q cannot be the name of a header", name))
		case contains(ours, canonical):
			errs.Add(s.Errorf(key, "the header %s is set by the gateway itself", canonical))
		case canonical == "Authorization" && (s.Has("bearer") || s.Has("basic")):
			errs.Add(s.Errorf(key, "the header Authorization is set by bearer or basic; remove one of them"))
		case !isFieldValue(value.Reveal()):
			errs.Add(s.Errorf(key, "the value of header %s has control characters or line breaks", name))
		default:
			h.Set(name, value.Reveal())
		}
	}
	switch {
	case s.Has("bearer") && s.Has("basic"):
		errs.Add(s.Errorf("basic", "bearer and basic exclude each other; remove one"))
	case s.Has("bearer") && set.Bearer == (config.Secret{}): // Decode has said why
	case s.Has("bearer") && (set.Bearer.IsZero() || !isFieldValue(set.Bearer.Reveal())):
		errs.Add(s.Errorf("bearer", "bearer must be one line of text that is not empty"))
	case s.Has("bearer"):
		h.Set("Authorization", "Bearer "+set.Bearer.Reveal())
	case set.Basic != nil && strings.Contains(set.Basic.User, ":"):
		errs.Add(s.Errorf("basic.user", "basic.user must not contain a colon"))
	case set.Basic != nil:
		r := http.Request{Header: h}
		r.SetBasicAuth(set.Basic.User, set.Basic.Password.Reveal())
	}
	return h
}

// secrets returns the credentials in the headers. Short values are not among
// them: X-Site: 7 is no secret, and would make every 7 unreadable.
func (set *settings) secrets(h http.Header) []string {
	const short = 6
	all := []string{h.Get("Authorization"), strings.TrimPrefix(h.Get("Authorization"), "Basic "), set.Bearer.Reveal()}
	if set.Basic != nil {
		all = append(all, set.Basic.Password.Reveal())
	}
	for _, value := range set.Headers {
		all = append(all, value.Reveal())
	}
	all = slices.DeleteFunc(all, func(s string) bool { return len(s) < short })
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return all
}

func contains(list []string, s string) bool {
	for _, one := range list {
		if one == s {
			return true
		}
	}
	return false
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// shown is u as it may stand in logs: queries often hold keys.
func shown(u *url.URL) string {
	v := *u
	v.User, v.Fragment = nil, ""
	if v.RawQuery != "" {
		v.RawQuery = "…"
	}
	return v.String()
}

// Send posts one batch. It returns nil after an answer of 2xx. Several may be
// under way at a time.
func (s *Sink) Send(ctx context.Context, b forward.Batch) error {
	if s.closed.Load() {
		return errors.New("http sink: send after close")
	}
	pack := s.packer()
	defer s.putBack(pack)
	pack.plain = pack.encoder.AppendBatch(trim(pack.plain), s.format, &b)
	packed, err := pack.compressor.compress(pack.plain)
	if err != nil {
		return fmt.Errorf("compress a batch: %w", err)
	}
	p := &payload{data: packed}
	defer p.release() // before the memory is used again

	key := idempotencyKey(&b)
	resp, reused, err := s.post(ctx, p, key)
	s.unanswered.Store(err != nil)
	if err != nil && reused && ctx.Err() == nil {
		// A far side may drop a kept connection at any time. That is no news
		// as long as a fresh one works.
		s.client.CloseIdleConnections()
		resp, _, err = s.post(ctx, p, key)
		s.unanswered.Store(err != nil)
	}
	if err != nil {
		return s.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	return s.judge(resp)
}

// post makes one request and reports whether it used a kept connection.
func (s *Sink) post(ctx context.Context, p *payload, key []string) (resp *http.Response, reused bool, err error) {
	var kept atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) { kept.Store(c.Reused) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, p.reader())
	if err != nil {
		return nil, false, err
	}
	req.ContentLength = int64(len(p.data))
	req.GetBody = p.open
	req.Host = s.host
	req.Header = s.header.Clone()
	req.Header["Idempotency-Key"] = key
	if s.unanswered.Load() {
		// A far side that refuses a request from its headers may close while
		// the body is being sent, and its answer, such as 413, is lost. Asking
		// first costs a round trip and gets that answer.
		req.Header.Set("Expect", "100-continue")
	}
	resp, err = s.client.Do(req)
	return resp, kept.Load(), err
}

// idempotencyKey returns the identity of the first event and the offset of the
// last, so that a batch sent again is known by it; if there are gaps between
// them, also a hash of all offsets, for then other events may lie between the
// same two. A batch of replayed events has none: a far side that knew the
// first sending would ignore it.
func idempotencyKey(b *forward.Batch) []string {
	if b.Replay {
		return nil
	}
	first, last := &b.Events[0], &b.Events[len(b.Events)-1]
	id := first.ID(url.PathEscape(b.Gateway), url.PathEscape(b.Stream))
	key := fmt.Sprintf("%s-%d", id, last.Offset)
	if last.Epoch != first.Epoch {
		key = fmt.Sprintf("%s-%016x/%d", id, last.Epoch, last.Offset)
	}
	if last.Offset-first.Offset >= uint64(len(b.Events)) {
		h := uint64(14695981039346656037) // FNV-1a over whole offsets
		for i := range b.Events {
			h = (h ^ b.Events[i].Offset) * 1099511628211
		}
		key = fmt.Sprintf("%s-%016x", key, h)
	}
	return []string{key}
}

// Close drops the kept connections.
func (s *Sink) Close() error {
	if !s.closed.Swap(true) {
		s.client.CloseIdleConnections()
	}
	return nil
}
