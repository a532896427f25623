package httpsink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/gateway/forward"
)

const (
	maxRetryAfter = time.Hour // a far side that asks for more is asked again
	maxQuoted     = 200       // bytes of an answer that errors quote
	maxSecret     = 4 << 10   // bytes of a secret that is found at the end of them
	maxDrained    = 64 << 10  // bytes of an answer that are read to keep the connection
)

// judge decides what an answer means.
//
//	2xx            the far side has the batch
//	400, 422       it will never take this content: narrowed down to one event
//	413            the batch is too large: halved
//	all others     a fault of the destination or its settings: kept, sent again
//
// Among the others are 401, 403, 404, 407, 408, 425, 429 and 5xx, but also
// those that a wrong setting causes for every event alike, such as 405, 406,
// 410, 411 and 415, and 409, with which a far side says that it still works on
// a batch of the same idempotency key. What is unknown is kept.
func (s *Sink) judge(resp *http.Response) error {
	code := resp.StatusCode
	if code >= 200 && code < 300 {
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrained)
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxQuoted+maxSecret))
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrained)

	err := fmt.Errorf("%s: %s%s%s", s.label, status(code), quoted(text, s.secrets), advice(resp))
	switch code {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return forward.Permanent(err)
	case http.StatusRequestEntityTooLarge:
		return forward.TooLarge(err)
	}
	if after, asked := retryAfter(resp.Header, time.Now()); asked {
		return forward.RetryAfter(err, after)
	}
	return err
}

func status(code int) string {
	if text := http.StatusText(code); text != "" {
		return strconv.Itoa(code) + " " + text
	}
	return strconv.Itoa(code)
}

// quoted returns the beginning of an answer on one line. A far side that
// repeats what it was sent must not bring our secrets into logs.
func quoted(text []byte, secrets []string) string {
	plain := string(text)
	for _, secret := range secrets {
		plain = strings.ReplaceAll(plain, secret, "***")
	}
	plain = plain[:min(len(plain), maxQuoted)]
	words := strings.Join(strings.Fields(strings.ToValidUTF8(plain, "")), " ")
	if words == "" {
		return ""
	}
	return fmt.Sprintf(", the answer begins %q", words)
}

func advice(resp *http.Response) string {
	switch code := resp.StatusCode; {
	case code >= 300 && code < 400:
		to := ""
		if at, err := resp.Location(); err == nil {
			to = " to " + shown(at)
		}
		return fmt.Sprintf("; redirects%s are not followed, check url", to)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return "; check bearer, basic, headers and the client certificate"
	case code == http.StatusNotFound, code == http.StatusMethodNotAllowed, code == http.StatusGone:
		return "; check url"
	case code == http.StatusNotAcceptable, code == http.StatusUnsupportedMediaType:
		return "; check format and compression"
	case code == http.StatusProxyAuthRequired:
		return "; check the proxy's user and password in HTTPS_PROXY or HTTP_PROXY"
	case code == http.StatusBadRequest, code == http.StatusUnprocessableEntity:
		return "; if this concerns every event, check format and compression"
	case code == http.StatusRequestEntityTooLarge:
		return "; batches are halved, a smaller batch.bytes avoids that"
	}
	return ""
}

// retryAfter reads the pause that the far side asks for, at most an hour. A
// date is measured against the far side's own clock if that is given: ours may
// be wrong.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second, true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	if theirs, err := http.ParseTime(h.Get("Date")); err == nil {
		now = theirs
	}
	return max(0, min(at.Sub(now), maxRetryAfter)), true
}

// unreachable explains why there was no answer. All of this is temporary.
func (s *Sink) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", s.label, ctx.Err())
	}
	var wrapped *url.Error // has the URL with its query
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if forward.IsHangUp(err) || errors.Is(err, net.ErrClosed) {
		hint := ""
		if strings.HasPrefix(s.url, "https:") {
			// The alert that says so is lost when the connection is reset.
			hint = "; if it asks for a client certificate, check tls.cert and tls.key"
		}
		return fmt.Errorf("%s: the far side ended the connection without an answer%s", s.label, hint)
	}
	return fmt.Errorf("%s: %w", s.label, forward.Unreachable(err))
}
