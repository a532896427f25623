package ops

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// ErrUnreachable is wrapped by every error of a [Client] that found no
// gateway to talk to.
var ErrUnreachable = errors.New("gateway not reachable")

// ConfigError is the answer of a gateway that refused a new configuration
// because of mistakes in it. Its text shows them with their carets.
type ConfigError struct{ Text string }

func (e *ConfigError) Error() string { return e.Text }

// Client talks to a running gateway through its control socket. It may be
// used concurrently.
type Client struct {
	paths []string
	http  *http.Client
}

// NewClient returns a client that uses the first of the socket paths at which
// a gateway answers. It does not connect yet.
func NewClient(paths ...string) *Client {
	c := &Client{paths: paths}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
	}}
	return c
}

// dial connects to the first gateway that answers. Its error speaks of the
// first path with a socket, or else of all of them.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var (
		d     net.Dialer
		found error
	)
	for _, path := range c.paths {
		conn, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if found == nil && !errors.Is(err, fs.ErrNotExist) {
			found = unreachable(path, err)
		}
	}
	if found != nil {
		return nil, found
	}
	return nil, unreachable(strings.Join(c.paths, " or "), fs.ErrNotExist)
}

func unreachable(where string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w at %s: permission denied; run this as root or as a member of the group that owns the socket", ErrUnreachable, where)
	}
	return fmt.Errorf("%w at %s; is it running? start it with: holdfast run --config FILE", ErrUnreachable, where)
}

// Status returns a snapshot of the gateway.
func (c *Client) Status(ctx context.Context) (st Status, err error) {
	body, err := c.StatusJSON(ctx)
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(body, &st); err != nil {
		return st, fmt.Errorf("read status: %w; are gateway and command of the same version?", err)
	}
	return st, nil
}

// StatusJSON returns the snapshot in the gateway's own JSON.
func (c *Client) StatusJSON(ctx context.Context) ([]byte, error) {
	resp, err := c.do(ctx, http.MethodGet, "/v1/status")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	return body, nil
}

// Reload makes the gateway read its configuration again. It returns when the
// new one is in force; the error is a [*ConfigError] if it has mistakes, and
// the old one goes on after any error.
func (c *Client) Reload(ctx context.Context) error {
	resp, err := c.do(ctx, http.MethodPost, "/v1/reload")
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Tail calls fn for each event that the gateway sends; fn may keep the item.
// It returns nil if ctx
// ended it, the error of fn, or why the gateway stopped sending.
func (c *Client) Tail(ctx context.Context, q TailQuery, fn func(Item) error) error {
	resp, err := c.do(ctx, http.MethodGet, "/v1/tail?"+q.values().Encode())
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadBytes('\n')
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, io.EOF):
			if text, _ := url.QueryUnescape(resp.Trailer.Get(tailErrorTrailer)); text != "" {
				return fmt.Errorf("tail: %s", text)
			}
			return errors.New("tail: the gateway closed the connection")
		case err != nil:
			return fmt.Errorf("tail: the connection to the gateway broke: %w", err)
		}
		if err := fn(Item(bytes.TrimSuffix(line, []byte("\n")))); err != nil {
			return err
		}
	}
}

// do sends a request and turns every status but success into an error.
func (c *Client) do(ctx context.Context, method, path string) (*http.Response, error) {
	return c.request(ctx, method, path, http.NoBody)
}

func (c *Client) request(ctx context.Context, method, path string, content io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://holdfast"+path, content)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) { // the made-up URL would only confuse
			err = u.Err
		}
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return nil, fmt.Errorf("the connection to the gateway broke: %w", err)
	}
	var f failure
	if json.Unmarshal(answer, &f) != nil || f.Error == "" {
		f.Error = fmt.Sprintf("the gateway answered %s: %s", resp.Status, bytes.TrimSpace(answer))
	}
	if resp.StatusCode == http.StatusUnprocessableEntity {
		return nil, &ConfigError{f.Error}
	}
	return nil, errors.New(f.Error)
}
