package ingest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
)

// budget bounds the memory of all requests that are not answered yet.
type budget struct {
	limit int64
	taken atomic.Int64
}

// share is what one request has of the budget.
type share struct {
	of    *budget
	bytes int64
}

// take adds n bytes to the share. It fails when the budget is exhausted, but
// not for the only request there is.
func (s *share) take(n int) error {
	s.bytes += int64(n)
	if total := s.of.taken.Add(int64(n)); total > s.of.limit && total > s.bytes {
		return problemf(http.StatusTooManyRequests, "too much is being sent at once").after(1)
	}
	return nil
}

func (s *share) release() {
	s.of.taken.Add(-s.bytes)
	s.bytes = 0
}

// body reads the body of a request, uncompressed. What it returns is memory of
// its own.
func (s *Server) body(w http.ResponseWriter, r *http.Request, held *share) ([]byte, error) {
	limit := s.o.MaxBody
	if r.ContentLength > int64(limit) {
		return nil, tooLarge(limit)
	}
	var src io.Reader = http.MaxBytesReader(w, r.Body, int64(limit))
	hint, zipped := int(r.ContentLength), false
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		z := s.unzip.Get().(*gzip.Reader)
		defer s.unzip.Put(z)
		if err := z.Reset(src); err != nil {
			return nil, s.readError(err, true)
		}
		src, hint, zipped = z, 4*hint, true
	default:
		return nil, problemf(http.StatusUnsupportedMediaType, "Content-Encoding %q is not supported; send gzip, or no encoding", encoding)
	}
	// The length is only a claim: memory grows with what really arrives. One
	// byte more than the body has finds its end without growing.
	size := min(max(hint, 512), 64<<10) + 1
	if err := held.take(size); err != nil {
		return nil, err
	}
	b := make([]byte, 0, size)
	for {
		n, err := src.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b) > limit:
			return nil, tooLarge(limit)
		case err == io.EOF:
			if cap(b) > 2*len(b) {
				b = bytes.Clone(b)
			}
			return b, nil
		case err != nil:
			return nil, s.readError(err, zipped)
		case len(b) == cap(b):
			more := min(cap(b), limit+1-cap(b))
			if err := held.take(more); err != nil {
				return nil, err
			}
			b = append(make([]byte, 0, cap(b)+more), b...)
		}
	}
}

func tooLarge(limit int) *problem {
	return problemf(http.StatusRequestEntityTooLarge, "the body has more than %d bytes; send less at once", limit)
}

// readError says why a body could not be read.
func (s *Server) readError(err error, zipped bool) *problem {
	var large *http.MaxBytesError
	switch {
	case s.intake.Err() != nil:
		return stopping()
	case errors.As(err, &large):
		return tooLarge(s.o.MaxBody)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return problemf(http.StatusRequestTimeout, "the body took too long to arrive").after(1)
	case zipped:
		return problemf(http.StatusBadRequest, "read the body as gzip, as Content-Encoding says: %v", err)
	}
	return problemf(http.StatusBadRequest, "read the body: %v", err)
}
