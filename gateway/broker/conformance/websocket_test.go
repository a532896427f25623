package conformance

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// webSocket is a connection over WebSocket that sends what it is told.
type webSocket struct {
	net.Conn
	r    *bufio.Reader
	rest []byte // of the message that is read
}

const (
	wsText   = 1
	wsBinary = 2
	wsClose  = 8
)

// upgrade opens a WebSocket. The server's answer is returned too.
func (s *stage) upgrade(protocol, origin string) (ws *webSocket, answer *http.Response) {
	nc, err := net.Dial("tcp", s.server.web)
	if err != nil {
		s.fail("dial: %v", err)
	}
	s.peers = append(s.peers, &peer{Conn: nc})
	_ = nc.SetDeadline(time.Now().Add(s.server.patience))
	header := ""
	if protocol != "" {
		header += "Sec-WebSocket-Protocol: " + protocol + "\r\n"
	}
	if origin != "" {
		header += "Origin: " + origin + "\r\n"
	}
	fmt.Fprintf(nc, "GET /mqtt HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n%s\r\n", s.server.web, header)
	r := bufio.NewReader(nc)
	answer, err = http.ReadResponse(r, nil)
	if err != nil {
		return nil, nil
	}
	return &webSocket{Conn: nc, r: r}, answer
}

// frame sends one frame.
func (w *webSocket) frame(first byte, p []byte) error {
	b := []byte{first}
	if len(p) < 126 {
		b = append(b, 0x80|byte(len(p)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(len(p)))
	}
	b = append(b, 0, 0, 0, 0) // a mask that changes nothing
	_, err := w.Conn.Write(append(b, p...))
	return err
}

// Write sends a binary message.
func (w *webSocket) Write(p []byte) (int, error) { return len(p), w.frame(0x80|wsBinary, p) }

// Read reads from binary messages.
func (w *webSocket) Read(p []byte) (int, error) {
	for len(w.rest) == 0 {
		var head [2]byte
		if _, err := io.ReadFull(w.r, head[:]); err != nil {
			return 0, err
		}
		size := int(head[1] & 0x7f)
		if size == 126 {
			var more [2]byte
			if _, err := io.ReadFull(w.r, more[:]); err != nil {
				return 0, err
			}
			size = int(binary.BigEndian.Uint16(more[:]))
		}
		data := make([]byte, size)
		if _, err := io.ReadFull(w.r, data); err != nil {
			return 0, err
		}
		switch head[0] & 0x0f {
		case 0, wsBinary:
			w.rest = data
		case wsClose:
			return 0, io.EOF
		default:
			return 0, errors.New("a frame that is not binary")
		}
	}
	n := copy(p, w.rest)
	w.rest = w.rest[n:]
	return n, nil
}

func webSocketPromises() []promise {
	open := func(s *stage) *webSocket {
		ws, answer := s.upgrade("mqtt", "")
		s.check(answer != nil && answer.StatusCode == http.StatusSwitchingProtocols, "not upgraded: %v", answer)
		return ws
	}
	return concat(
		both("MQTT-6.0.0-4", "the server chooses the subprotocol mqtt", func(s *stage) {
			_, answer := s.upgrade("other, mqtt", "")
			s.check(answer != nil && answer.Header.Get("Sec-WebSocket-Protocol") == "mqtt", "answer %v", answer)
		}),
		both("MQTT-6.0.0-2", "packets may be spread over messages and share them", func(s *stage) {
			ws := open(s)
			p := s.over(ws)
			b := cat(hello{id: s.prefix}.packet(s.v), subscribe(s.v, 1, nil, filter{s.topic("a"), 1}), packet(PINGREQ), message{topic: s.topic("a"), payload: "x", qos: 1, id: 2}.packet(s.v))
			for i := 0; i < len(b); i += 7 {
				p.send(b[i:min(i+7, len(b))])
			}
			p.connack()
			p.suback(1)
			p.want(PINGRESP)
			p.acked(PUBACK, 2, 0)
			p.receives("x")
			p.send(cat(packet(PINGREQ), packet(PINGREQ), packet(DISCONNECT)))
			p.want(PINGRESP)
			p.want(PINGRESP)
		}),
		both("MQTT-6.0.0-1", "a message that is not binary closes the connection", func(s *stage) {
			ws := open(s)
			p := s.over(ws)
			p.send(hello{id: s.prefix}.packet(s.v))
			p.connack()
			_ = ws.frame(0x80|wsText, packet(PINGREQ))
			for {
				if _, err := p.read(); err != nil {
					p.ended(err)
					return
				}
			}
		}),
		both("4.2", "a frame that announces more than it may have closes the connection", func(s *stage) {
			ws := open(s)
			p := s.over(ws)
			p.send(hello{id: s.prefix}.packet(s.v))
			p.connack()
			b := binary.BigEndian.AppendUint64([]byte{0x80 | wsBinary, 0x80 | 127}, 1<<40)
			_, _ = ws.Conn.Write(append(b, 0, 0, 0, 0))
			_, _ = ws.Conn.Write([]byte(strings.Repeat("x", 1000)))
			for {
				if _, err := p.read(); err != nil {
					p.ended(err)
					return
				}
			}
		}),
		both("5.4.9 5.4.9", "a page of another site cannot connect", func(s *stage) {
			_, answer := s.upgrade("mqtt", "http://elsewhere.example")
			s.check(answer == nil || answer.StatusCode == http.StatusForbidden, "answer %v", answer)
		}),
		both("5.4.9 5.4.9", "a page of the same host and port can connect", func(s *stage) {
			_, answer := s.upgrade("mqtt", "http://"+s.server.web)
			s.check(answer != nil && answer.StatusCode == http.StatusSwitchingProtocols, "answer %v", answer)
		}),
	)
}
