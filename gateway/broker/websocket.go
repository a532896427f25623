package broker

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"holdfast/gateway/broker/packet"
)

const (
	subprotocol  = "mqtt"   // [MQTT-6.0.0-3]
	minMessage   = 1 << 20  // bytes that one WebSocket message may always have
	maxHTTPBytes = 16 << 10 // of the request that opens a connection
)

// WebSocket are the settings of a listener for MQTT over WebSocket.
type WebSocket struct {
	// Path of the URL; "" means /mqtt. Others are answered 404.
	Path string
	// Origins are the web sites, as https://host or https://host:port, whose
	// pages may connect; "*" is every site. With none, only pages that came from
	// the very host and port that they connect to. Clients that are no browsers
	// do not name an origin, and are let in. Others are answered 403.
	Origins []string
}

// CheckOrigin reports what makes s unusable as one of a WebSocket's origins.
func CheckOrigin(s string) error {
	u, err := url.Parse(s)
	if s == "*" || err == nil && u.Host != "" && s == u.Scheme+"://"+u.Host {
		return nil
	}
	return errors.New("an origin is written as https://host or https://host:port")
}

// web accepts WebSocket connections.
type web struct {
	b        *Broker
	port     *port
	path     string
	server   *http.Server
	upgrader websocket.Upgrader
	opening  atomic.Int64 // connections that have not been upgraded
}

func newWeb(b *Broker, p *port) *web {
	w := &web{b: b, port: p, path: p.set.WebSocket.Path}
	if w.path == "" {
		w.path = "/mqtt"
	}
	w.server = &http.Server{
		Handler:           w,
		ReadHeaderTimeout: b.limits.ConnectTimeout, // for the handshake of TLS too
		WriteTimeout:      b.limits.ConnectTimeout,
		MaxHeaderBytes:    maxHTTPBytes,
		ConnState:         w.count,
		ErrorLog:          slog.NewLogLogger(b.log.Handler(), slog.LevelDebug),
	}
	w.server.SetKeepAlivesEnabled(false)
	w.upgrader = websocket.Upgrader{
		HandshakeTimeout: b.limits.ConnectTimeout,
		ReadBufferSize:   idleBuffer,
		WriteBufferSize:  idleBuffer,
		WriteBufferPool:  new(sync.Pool),
		Subprotocols:     []string{subprotocol},
		CheckOrigin:      func(*http.Request) bool { return true }, // ServeHTTP has looked at it
	}
	return w
}

func (w *web) serve() {
	// It returns when the listener is closed, and closes what is not upgraded.
	_ = w.server.Serve(w.port)
}

// count bounds the connections that are not upgraded, like those that are.
func (w *web) count(socket net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if w.opening.Add(1) > int64(w.b.maxConns()) {
			_ = socket.Close()
		}
	case http.StateHijacked, http.StateClosed:
		w.opening.Add(-1)
	}
}

// ServeHTTP makes a WebSocket connection of a request.
func (w *web) ServeHTTP(answer http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != w.path:
		http.NotFound(answer, r)
		return
	case !w.allows(r):
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		w.b.say("mqtt websocket refused", host, fmt.Errorf("origin %q is not one of those that may connect", r.Header.Get("Origin")))
		http.Error(answer, "pages of this origin may not connect", http.StatusForbidden)
		return
	case websocket.IsWebSocketUpgrade(r) && !slices.Contains(websocket.Subprotocols(r), subprotocol):
		http.Error(answer, "the WebSocket subprotocol must be "+subprotocol, http.StatusBadRequest)
		return
	}
	ws, err := w.upgrader.Upgrade(answer, r, nil)
	if err != nil {
		return // it has been answered
	}
	ws.SetReadLimit(int64(max(w.b.maxPacket, minMessage)))
	var cert *x509.Certificate
	if r.TLS != nil {
		cert = verified(*r.TLS)
	}
	if !w.b.take(&webSocket{Conn: ws}, w.port, cert) {
		_ = ws.Close()
	}
}

// allows checks where the page came from that connects. A browser lets any
// page connect to any host, also to those that only it can reach, and trusts
// the server to refuse.
func (w *web) allows(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	if origins := w.port.set.WebSocket.Origins; len(origins) > 0 {
		return slices.ContainsFunc(origins, func(o string) bool { return o == "*" || strings.EqualFold(o, origin) })
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// webSocket is a WebSocket connection as a stream of bytes: packets need not
// begin where messages do [MQTT-6.0.0-2]. After a deadline has passed it can
// not be read any more, which suits conn.
type webSocket struct {
	*websocket.Conn
	message io.Reader // the rest of the message that is read
}

// Read reads what binary messages hold.
func (s *webSocket) Read(p []byte) (n int, err error) {
	for {
		if s.message == nil {
			var kind int
			if kind, s.message, err = s.NextReader(); err != nil {
				return 0, readError(err)
			}
			if kind != websocket.BinaryMessage { // [MQTT-6.0.0-1]
				_ = s.bye(websocket.CloseUnsupportedData)
				return 0, &packet.Violation{Reason: packet.ProtocolError, What: "WebSocket message that is not binary"}
			}
		}
		n, err = s.message.Read(p)
		if err == io.EOF { //nolint:errorlint // a Reader returns it as it is
			s.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, readError(err)
		}
	}
}

// readError turns errors into those of other connections.
func readError(err error) error {
	var closed *websocket.CloseError
	var timeout net.Error
	switch {
	case errors.As(err, &closed):
		return io.EOF
	case errors.Is(err, websocket.ErrReadLimit):
		return &packet.Violation{Reason: packet.PacketTooLarge, What: "WebSocket message larger than the maximum packet size"}
	case errors.As(err, &timeout) && timeout.Timeout():
		return os.ErrDeadlineExceeded
	}
	return err
}

// Write sends a binary message.
func (s *webSocket) Write(p []byte) (int, error) {
	if err := s.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetDeadline sets those for reading and writing.
func (s *webSocket) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// CloseWrite tells the client that nothing more comes.
func (s *webSocket) CloseWrite() error { return s.bye(websocket.CloseNormalClosure) }

func (s *webSocket) bye(code int) error {
	return s.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(closeTimeout))
}
