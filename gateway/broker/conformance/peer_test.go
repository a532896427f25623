package conformance

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

// failure is what ends a dialogue in which a server did not what it must.
type failure struct {
	text string
	weak bool // it did what it must, but did not say why
}

// stage is where one dialogue takes place.
type stage struct {
	server *server
	v      version
	prefix string // of client ids and topics, for no other dialogue to use
	peers  []*peer
	ids    int
}

func (s *stage) fail(format string, args ...any) { panic(failure{text: fmt.Sprintf(format, args...)}) }

func (s *stage) check(ok bool, format string, args ...any) {
	if !ok {
		s.fail(format, args...)
	}
}

// topic is a topic of this dialogue alone.
func (s *stage) topic(name string) string { return s.prefix + "/" + name }

// dial opens a connection on which nothing has been said.
func (s *stage) dial() *peer {
	nc, err := net.Dial("tcp", s.server.addr)
	if err != nil {
		s.fail("dial: %v", err)
	}
	return s.over(nc)
}

func (s *stage) over(nc net.Conn) *peer {
	p := &peer{Conn: nc, s: s, v: s.v, r: bufio.NewReader(nc), kept: map[string]bool{}}
	s.peers = append(s.peers, p)
	return p
}

func (s *stage) end() {
	for _, p := range s.peers {
		p.Close()
	}
}

// connect opens a session. Without an id it has a fresh one.
func (s *stage) connect(h hello) *peer {
	p, _ := s.session(h)
	return p
}

// session opens a session and also returns whether there was one.
func (s *stage) session(h hello) (p *peer, present bool) {
	if h.id == "" {
		s.ids++
		h.id = fmt.Sprintf("%s-%d", s.prefix, s.ids)
	} else {
		h.id = s.prefix + "-" + h.id
	}
	p = s.dial()
	p.id = h.id
	p.send(h.packet(s.v))
	_, present = p.connack()
	return p, present
}

// again opens the session of a peer again, without a clean start.
func (s *stage) again(old *peer, h hello) (p *peer, present bool) {
	h.keep, h.id = true, old.id
	p = s.dial()
	p.id = h.id
	p.send(h.packet(s.v))
	_, present = p.connack()
	return p, present
}

// peer is a client that does what the dialogue says, right or wrong.
type peer struct {
	net.Conn
	s     *stage
	v     version
	id    string
	r     *bufio.Reader
	early []received // that came while another was waited for
	hold  bool       // messages are not acknowledged
	kept  map[string]bool
	last  uint16 // packet identifier used
	props []byte // of CONNACK
}

func (p *peer) send(b []byte) {
	_ = p.SetWriteDeadline(time.Now().Add(p.s.server.patience))
	if _, err := p.Write(b); err != nil {
		p.s.fail("send: %v", err)
	}
}

// offer sends what the server may not take to the end.
func (p *peer) offer(b []byte) {
	_ = p.SetWriteDeadline(time.Now().Add(p.s.server.patience))
	_, _ = p.Write(b)
}

// read reads one packet.
func (p *peer) read() (r received, err error) {
	_ = p.SetReadDeadline(time.Now().Add(p.s.server.patience))
	if r.first, err = p.r.ReadByte(); err != nil {
		return r, err
	}
	n, err := binary.ReadUvarint(p.r)
	if err != nil {
		return r, err
	}
	if n > longestVarint {
		return r, fmt.Errorf("packet of %d bytes", n)
	}
	r.body = make([]byte, n)
	_, err = io.ReadFull(p.r, r.body)
	return r, err
}

// want returns the next packet of a kind. Others that come before are kept for
// later.
func (p *peer) want(kind int) received {
	for i, r := range p.early {
		if r.kind() == byte(kind)&0xf0 {
			p.early = slices.Delete(p.early, i, i+1)
			return r
		}
	}
	for {
		r, err := p.read()
		switch {
		case err != nil:
			p.s.fail("waiting for %s: %v%s", received{first: byte(kind)}, err, p.earlier())
		case r.kind() == byte(kind)&0xf0:
			return r
		case r.kind() == DISCONNECT:
			p.s.fail("waiting for %s: %s", received{first: byte(kind)}, r)
		}
		p.early = append(p.early, r)
	}
}

func (p *peer) earlier() string {
	if len(p.early) == 0 {
		return ""
	}
	return fmt.Sprintf(" (after %v)", p.early)
}

// expect reads one packet, which must be this very one.
func (p *peer) expect(want ...byte) {
	r, err := p.read()
	if err != nil {
		p.s.fail("waiting for [% x]: %v", want, err)
	}
	if got := packet(int(r.first), r.body); !bytes.Equal(got, want) {
		p.s.fail("got %s, want [% x]", r, want)
	}
}

// connack waits for CONNACK with success.
func (p *peer) connack() (code byte, present bool) {
	r := p.want(CONNACK)
	if len(r.body) < 2 || r.body[1] != 0 {
		p.s.fail("got %s, want CONNACK with success", r)
	}
	if p.v == v5 {
		props, _, ok := cutProperties(r.body[2:])
		p.s.check(ok, "CONNACK without proper properties: %s", r)
		p.props = props
	}
	return r.body[1], r.body[0]&1 != 0
}

// announced returns a number that CONNACK had as a property.
func (p *peer) announced(id byte) (n int, ok bool) {
	all := values(p.props, id)
	if len(all) == 0 {
		return 0, false
	}
	for _, b := range []byte(all[0]) {
		n = n<<8 | int(b)
	}
	return n, true
}

// refused waits for the refusal of CONNECT and the end. Codes of MQTT 5 apply to
// it only; a 3.1.1 client sees code4, or with 0 nothing but the end. With MQTT 5
// a server may leave it at the end too (4.13.1).
func (p *peer) refused(code4 byte, codes ...byte) {
	r, err := p.read()
	if err != nil {
		p.ended(err)
		if p.v == v4 && code4 != 0 {
			p.s.fail("closed without CONNACK, want code %d", code4)
		}
		return
	}
	switch {
	case r.kind() != CONNACK || len(r.body) < 2:
		p.s.fail("got %s, want CONNACK or the end", r)
	case r.body[1] == 0:
		p.s.fail("the CONNECT was accepted")
	case r.body[0] != 0:
		p.s.fail("CONNACK with a reason and session present: %s", r) // [MQTT-3.2.2-6]
	case p.v == v4 && r.body[1] != code4:
		p.s.fail("got %s, want code %d", r, code4)
	case p.v == v5 && !slices.Contains(codes, r.body[1]):
		p.s.fail("got %s, want code % x", r, codes)
	}
	p.gone()
}

// closed waits for the end of an established session: with DISCONNECT and one of
// the codes where the version has that, otherwise without a word. What else
// comes before is ignored.
func (p *peer) closed(codes ...byte) {
	said := false
	for {
		r, err := p.read()
		if err != nil {
			p.ended(err)
			break
		}
		if r.kind() != DISCONNECT {
			continue
		}
		said = true
		switch {
		case p.v == v4:
			p.s.fail("DISCONNECT from the server, which 3.1.1 does not have")
		case len(r.body) == 0 || !slices.Contains(codes, r.body[0]):
			p.s.fail("got %s, want a reason of % x", r, codes)
		}
	}
	if !said && p.v == v5 && len(codes) > 0 {
		panic(failure{text: fmt.Sprintf("closed without a reason of % x", codes), weak: true})
	}
}

// gone waits for the end of the connection, in any way but with more packets.
func (p *peer) gone() {
	if r, err := p.read(); err != nil {
		p.ended(err)
	} else {
		p.s.fail("got %s, want the end", r)
	}
}

func (p *peer) ended(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.s.fail("not closed after %v", p.s.server.patience)
	}
}

// nothing sees to it that the session lives and that nothing has come.
func (p *peer) nothing() {
	p.send(packet(PINGREQ))
	r := p.want(PINGRESP)
	p.s.check(len(r.body) == 0, "PINGRESP with %d bytes", len(r.body))
	p.s.check(len(p.early) == 0, "got %v, want nothing", p.early)
}

// alive sees to it that the session lives.
func (p *peer) alive() {
	p.send(packet(PINGREQ))
	p.want(PINGRESP)
}

func (p *peer) nextID() uint16 {
	p.last++
	return p.last
}

// subscribe subscribes to filters and wants them granted as asked.
func (p *peer) subscribe(filters ...filter) { p.subscribeWith(nil, filters...) }

func (p *peer) subscribeWith(props []byte, filters ...filter) {
	id := p.nextID()
	p.send(subscribe(p.v, id, props, filters...))
	codes := p.suback(id)
	for i, f := range filters {
		if i >= len(codes) || codes[i] != byte(f.options&3) {
			p.s.fail("SUBACK for %s at QoS %d: % x", f.name, f.options&3, codes)
		}
	}
}

// suback waits for SUBACK and returns its codes.
func (p *peer) suback(id uint16) []byte { return p.codes(SUBACK, id) }

func (p *peer) codes(kind int, id uint16) []byte {
	r := p.want(kind)
	p.s.check(len(r.body) >= 2 && binary.BigEndian.Uint16(r.body) == id, "got %s, want packet identifier %d", r, id)
	codes := r.body[2:]
	if p.v == v5 {
		_, rest, ok := cutProperties(codes)
		p.s.check(ok, "%s without proper properties", r)
		codes = rest
	}
	return codes
}

// publish sends messages and sees their acknowledgements through. Retained ones
// are kept when it returns: a server may acknowledge a message before it gives
// it to those who subscribe, and who subscribes in between gets it twice, or as
// a live one.
func (p *peer) publish(messages ...message) {
	settle := false
	for _, m := range messages {
		settle = settle || m.retain
		if m.qos > 0 && m.id == 0 {
			m.id = p.nextID()
		}
		p.send(m.packet(p.v))
		switch m.qos {
		case 1:
			p.acked(PUBACK, m.id, 0)
		case 2:
			p.acked(PUBREC, m.id, 0)
			p.send(ack(PUBREL, m.id))
			p.acked(PUBCOMP, m.id, 0)
		}
	}
	if settle {
		p.settle()
	}
}

// settle waits until the client's messages have been given to subscribers,
// which is when one behind them comes back.
func (p *peer) settle() {
	topic := p.id + "/settle"
	p.subscribe(filter{topic, 0})
	p.publish(message{topic: topic, payload: "settled", qos: 1})
	p.receives("settled")
}

// acked waits for an acknowledgement. A reason below 0x80 is success; with 3.1.1
// it has none.
func (p *peer) acked(kind int, id uint16, reason byte) {
	r := p.want(kind)
	p.s.check(r.first == byte(kind), "first byte of %s", r)
	p.s.check(len(r.body) >= 2 && binary.BigEndian.Uint16(r.body) == id, "got %s, want packet identifier %d", r, id)
	got := byte(0)
	if len(r.body) > 2 {
		p.s.check(p.v == v5, "%s has a reason", r)
		got = r.body[2]
	}
	if p.v == v5 {
		p.s.check(got == reason || reason == 0 && got < 0x80, "%s, want reason %#x", r, reason)
	}
}

// next returns the next message, acknowledged unless hold is set.
func (p *peer) next() message {
	r := p.want(PUBLISH)
	m, ok := r.message(p.v)
	p.s.check(ok, "not a proper PUBLISH: %s", r)
	if p.hold {
		return m
	}
	switch m.qos {
	case 1:
		p.send(ack(PUBACK, m.id))
	case 2:
		p.send(ack(PUBREC, m.id))
		p.acked(PUBREL, m.id, 0)
		p.send(ack(PUBCOMP, m.id))
	}
	return m
}

// receives waits for messages with these payloads, in order, and returns them.
func (p *peer) receives(payloads ...string) (all []message) {
	for i, want := range payloads {
		m := p.next()
		all = append(all, m)
		if m.payload != want {
			p.s.fail("message %d is %q on %s, want %q", i, short(m.payload), m.topic, short(want))
		}
	}
	return all
}

func short(s string) string { return s[:min(len(s), 60)] }

// leave ends the connection with DISCONNECT.
func (p *peer) leave() {
	p.send(packet(DISCONNECT))
	p.gone()
}

// vanish ends the connection as if the client had died.
func (p *peer) vanish() {
	if tcp, ok := p.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	p.Close()
}
