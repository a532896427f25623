package broker

import (
	"encoding/binary"

	"github.com/mochi-mqtt/server/v2/packets"
)

// hello is a CONNECT that is as it must be. It is checked here to the last
// byte; mochi, which refuses what is allowed (a will without a payload, an
// empty password) and allows what is not, gets a plain one.
type hello struct {
	v5        bool
	bridge    bool // it comes from another broker
	clean     bool
	keepAlive uint16
	id        string
	props     []byte // MQTT 5 properties, checked
	will      *hisWill
	named     bool // there is a user name
	user      string
	secret    bool // there is a password
	password  []byte
}

// hisWill is the will in a CONNECT.
type hisWill struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
	props   properties
}

// Flags of CONNECT (MQTT 5, 3.1.2.3).
const (
	flagReserved   = 0x01
	flagClean      = 0x02
	flagWill       = 0x04
	flagWillQoS    = 0x18
	flagWillRetain = 0x20
	flagPassword   = 0x40
	flagUser       = 0x80
)

// Codes of a CONNACK of 3.1.1 (3.2.2.3).
const (
	refusedVersion  = 1
	refusedClientID = 2
	refusedRights   = 5
)

// parseConnect takes a CONNECT apart. What it returns beside an error is
// right as to v5: how the error is to be told. The slices are the packet's.
func (l *Limits) parseConnect(body []byte) (h hello, err error) {
	r := reader{b: body}
	name := r.text()
	version, bridge := level(r.byte())
	h.bridge = bridge
	switch {
	case name != "MQTT" && name != "MQIsdp": // [MQTT-3.1.2-1]
		return h, &violation{code: codeBadVersion, what: "CONNECT of another protocol"}
	case r.short:
		return h, malformed("CONNECT cut short")
	case name == "MQIsdp" || version != 4 && version != 5: // [MQTT-3.1.2-2]; MQIsdp is 3.1
		return h, &violation{code: codeBadVersion, code3: refusedVersion, what: "version of the protocol that is not 3.1.1 or 5"}
	}
	h.v5 = version == 5
	flags := r.byte()
	h.keepAlive = r.uint16()
	h.clean, h.named, h.secret = flags&flagClean != 0, flags&flagUser != 0, flags&flagPassword != 0
	if err := checkConnectFlags(flags, h.v5); err != nil {
		return h, err
	}
	var props properties
	if h.v5 && !r.short {
		if h.props, r.b, err = cutProperties(r.b); err != nil {
			return h, err
		}
		if props, err = parseProperties(h.props, connectProps); err != nil {
			return h, err
		}
		switch {
		case props.has(propAuthMethod): // [MQTT-4.12.0-1]
			return h, &violation{code: codeBadAuthMethod, what: "authentication method that is not supported"}
		case props.has(propAuthData):
			return h, protocolError("authentication data without a method")
		}
	}
	id := r.bytes()
	h.id = string(id)
	if flags&flagWill != 0 && !r.short {
		if h.will, err = l.parseWill(&r, flags, h.v5); err != nil {
			return h, err
		}
	}
	if h.named {
		h.user = r.text()
	}
	if h.secret {
		h.password = r.bytes()
	}
	switch {
	case r.short:
		return h, malformed("CONNECT cut short")
	case len(r.b) > 0:
		return h, malformed("bytes behind CONNECT")
	case !validText(id): // [MQTT-3.1.3-4]
		return h, malformed("client id is not UTF-8 text")
	case !validText([]byte(h.user)): // [MQTT-3.1.3-12]
		return h, malformed("user name is not UTF-8 text")
	case len(id) > l.TopicBytes, len(id) == 0 && !h.v5 && !h.clean: // [MQTT-3.1.3-8] of 3.1.1
		return h, &violation{code: codeBadClientID, code3: refusedClientID, what: "client id that is too long, or empty for a session that is to last"}
	}
	return h, nil
}

func checkConnectFlags(flags byte, v5 bool) error {
	switch will := flags&flagWill != 0; {
	case flags&flagReserved != 0: // [MQTT-3.1.2-3]
		return malformed("CONNECT with its reserved flag")
	case !will && flags&(flagWillQoS|flagWillRetain) != 0: // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
		return malformed("CONNECT with flags of a will but no will")
	case flags&flagWillQoS == flagWillQoS: // [MQTT-3.1.2-12]
		return malformed("will with QoS 3")
	case !v5 && flags&flagPassword != 0 && flags&flagUser == 0: // [MQTT-3.1.2-22] of 3.1.1
		return malformed("password without a user name")
	}
	return nil
}

func (l *Limits) parseWill(r *reader, flags byte, v5 bool) (w *hisWill, err error) {
	w = &hisWill{qos: flags & flagWillQoS >> 3, retain: flags&flagWillRetain != 0}
	if v5 {
		var props []byte
		if props, r.b, err = cutProperties(r.b); err != nil {
			return nil, err
		}
		if w.props, err = parseProperties(props, willProps); err != nil {
			return nil, err
		}
	}
	topic := r.bytes()
	w.topic, w.payload = string(topic), r.bytes()
	switch err := l.checkTopic(topic); {
	case r.short:
		return nil, malformed("CONNECT cut short")
	case err != nil:
		return nil, err
	case len(topic) == 0: // [MQTT-4.7.3-1]
		return nil, &violation{code: codeBadTopic, what: "will without a topic"}
	case topic[0] == '$':
		return nil, &violation{code: codeBadTopic, code3: refusedRights, denied: true, what: "will on a topic that begins with $, which are the broker's"}
	}
	return w, nil
}

// plain returns the CONNECT for mochi, without will, user and password.
func (h *hello) plain() []byte {
	level, flags := byte(4), byte(0)
	if h.v5 {
		level = 5
	}
	if h.clean {
		flags = flagClean
	}
	b := append(appendText(nil, "MQTT"), level, flags)
	b = binary.BigEndian.AppendUint16(b, h.keepAlive)
	if h.v5 {
		b = append(appendVarint(b, len(h.props)), h.props...)
	}
	b = appendText(b, h.id)
	return append(appendVarint([]byte{typeConnect << 4}, len(b)), b...)
}

// complete gives back what mochi did not see, where hooks look for it.
func (h *hello) complete(p *packets.ConnectParams) {
	p.UsernameFlag, p.Username = h.named, []byte(h.user)
	p.PasswordFlag, p.Password = h.secret, h.password
	w := h.will
	if w == nil {
		return
	}
	p.WillFlag, p.WillTopic, p.WillPayload, p.WillQos, p.WillRetain = true, w.topic, w.payload, w.qos, w.retain
	p.WillProperties = packets.Properties{
		PayloadFormat: w.props.format, PayloadFormatFlag: w.props.has(propFormat),
		MessageExpiryInterval: w.props.expiry, WillDelayInterval: w.props.delay,
		ContentType: w.props.contentType, ResponseTopic: w.props.response, CorrelationData: w.props.correlation,
	}
	for _, u := range w.props.user {
		p.WillProperties.User = append(p.WillProperties.User, packets.UserProperty{Key: u.Name, Val: u.Value})
	}
}

// reader takes fields from the front of b; short is set when there was less
// than they say.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.short, r.b = true, nil
		return nil
	}
	field := r.b[:n]
	r.b = r.b[n:]
	return field
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) bytes() []byte { return r.take(int(r.uint16())) }
func (r *reader) text() string  { return string(r.bytes()) }
