package httpsink

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// payload is the body of one request. The transport may go on reading it after
// the answer has come, so the memory is reused only once release has cut all
// readers off.
type payload struct {
	mu   sync.Mutex
	data []byte
	gone bool
}

func (p *payload) reader() io.ReadCloser        { return &reader{p: p} }
func (p *payload) open() (io.ReadCloser, error) { return p.reader(), nil }

func (p *payload) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data, p.gone = nil, true
}

type reader struct {
	p  *payload
	at int
}

var errReleased = errors.New("the request is over")

func (r *reader) Read(b []byte) (int, error) {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	switch {
	case r.p.gone:
		return 0, errReleased
	case r.at == len(r.p.data):
		return 0, io.EOF
	}
	n := copy(b, r.p.data[r.at:])
	r.at += n
	return n, nil
}

func (r *reader) Close() error { return nil }

// compressor packs one batch at a time. What it returns is valid until the
// next call.
type compressor interface {
	compress(plain []byte) ([]byte, error)
}

func newCompressor(name string) compressor {
	switch name {
	case "gzip":
		return &gzipCompressor{}
	case "zstd":
		return &zstdCompressor{}
	}
	return identity{}
}

type identity struct{}

func (identity) compress(plain []byte) ([]byte, error) { return plain, nil }

type gzipCompressor struct {
	w   *gzip.Writer
	out buffer
}

func (c *gzipCompressor) compress(plain []byte) ([]byte, error) {
	c.out = trim(c.out)
	if c.w == nil {
		w, err := gzip.NewWriterLevel(&c.out, gzip.BestSpeed)
		if err != nil {
			return nil, err
		}
		c.w = w
	}
	c.w.Reset(&c.out)
	if _, err := c.w.Write(plain); err != nil {
		return nil, err
	}
	if err := c.w.Close(); err != nil {
		return nil, err
	}
	return c.out, nil
}

type zstdCompressor struct {
	w   *zstd.Encoder
	out buffer
}

func (c *zstdCompressor) compress(plain []byte) ([]byte, error) {
	if c.w == nil {
		w, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(256<<10))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		c.w = w
	}
	c.out = c.w.EncodeAll(plain, trim(c.out))
	return c.out, nil
}

type buffer []byte

func (b *buffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// trim empties a buffer for reuse, and drops one that a rare large batch has
// left behind.
func trim[B ~[]byte](b B) B {
	if cap(b) > 4<<20 {
		return nil
	}
	return b[:0]
}
