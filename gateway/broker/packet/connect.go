package packet

// Connect is a CONNECT (3.1) that is as it must be; its slices point into the
// packet.
type Connect struct {
	V5          bool // the protocol version is 5, else it is 3.1.1
	Bridge      bool // it comes from another broker
	Clean       bool // Clean Start, or in 3.1.1 Clean Session
	KeepAlive   uint16
	ClientID    string
	Properties  []byte // of MQTT 5, without their length, checked
	Will        *Will  // nil: none
	HasUserName bool
	UserName    string
	HasPassword bool
	Password    []byte
}

// Will is the will in a CONNECT.
type Will struct {
	Topic      string
	Payload    []byte
	QoS        byte
	Retain     bool
	Properties Properties
}

// Flags of CONNECT (3.1.2.3).
const (
	flagReserved   = 0x01
	flagClean      = 0x02
	flagWill       = 0x04
	flagWillQoS    = 0x18
	flagWillRetain = 0x20
	flagPassword   = 0x40
	flagUserName   = 0x80
)

// bridgeBit is what the bridges of Mosquitto set in the protocol version.
const bridgeBit = 0x80

// ParseConnect takes a CONNECT apart. What it returns beside an error is right
// as to V5: how the error is to be told.
func (l *Limits) ParseConnect(body []byte) (c Connect, err error) {
	r := reader{b: body}
	name := r.text()
	version := r.byte()
	if version == 4|bridgeBit || version == 5|bridgeBit {
		version, c.Bridge = version&^bridgeBit, true
	}
	switch {
	case name != "MQTT" && name != "MQIsdp": // [MQTT-3.1.2-1]
		return c, &Violation{Reason: UnsupportedVersion, What: "CONNECT of another protocol"}
	case r.short:
		return c, malformed("CONNECT cut short")
	case name == "MQIsdp" || version != 4 && version != 5: // [MQTT-3.1.2-2]; MQIsdp is 3.1
		return c, &Violation{Reason: UnsupportedVersion, Return: refusedVersion, What: "version of the protocol that is not 3.1.1 or 5"}
	}
	c.V5 = version == 5
	flags := r.byte()
	c.KeepAlive = r.uint16()
	c.Clean, c.HasUserName, c.HasPassword = flags&flagClean != 0, flags&flagUserName != 0, flags&flagPassword != 0
	if err := checkConnectFlags(flags, c.V5); err != nil {
		return c, err
	}
	if c.V5 && !r.short {
		if c.Properties, r.b, err = cutProperties(r.b); err != nil {
			return c, err
		}
		props, err := ParseProperties(c.Properties, connectProperties)
		switch {
		case err != nil:
			return c, err
		case props.Has(PropAuthMethod): // [MQTT-4.12.0-1]
			return c, &Violation{Reason: BadAuthenticationMethod, What: "authentication method that is not supported"}
		case props.Has(PropAuthData):
			return c, protocolError("authentication data without a method")
		}
	}
	id := r.bytes()
	c.ClientID = string(id)
	if flags&flagWill != 0 && !r.short {
		if c.Will, err = l.parseWill(&r, flags, c.V5); err != nil {
			return c, err
		}
	}
	if c.HasUserName {
		c.UserName = r.text()
	}
	if c.HasPassword {
		c.Password = r.bytes()
	}
	switch {
	case r.short:
		return c, malformed("CONNECT cut short")
	case len(r.b) > 0:
		return c, malformed("bytes behind CONNECT")
	case !validText(id): // [MQTT-3.1.3-4]
		return c, malformed("client id is not UTF-8 text")
	case !validText([]byte(c.UserName)): // [MQTT-3.1.3-12]
		return c, malformed("user name is not UTF-8 text")
	case len(id) > l.TopicBytes, len(id) == 0 && !c.V5 && !c.Clean: // [MQTT-3.1.3-8] of 3.1.1
		return c, &Violation{Reason: ClientIDNotValid, Return: refusedClientID, What: "client id that is too long, or empty for a session that is to last"}
	}
	return c, nil
}

func checkConnectFlags(flags byte, v5 bool) error {
	switch will := flags&flagWill != 0; {
	case flags&flagReserved != 0: // [MQTT-3.1.2-3]
		return malformed("CONNECT with its reserved flag")
	case !will && flags&(flagWillQoS|flagWillRetain) != 0: // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
		return malformed("CONNECT with flags of a will but no will")
	case flags&flagWillQoS == flagWillQoS: // [MQTT-3.1.2-12]
		return malformed("will with QoS 3")
	case !v5 && flags&flagPassword != 0 && flags&flagUserName == 0: // [MQTT-3.1.2-22] of 3.1.1
		return malformed("password without a user name")
	}
	return nil
}

func (l *Limits) parseWill(r *reader, flags byte, v5 bool) (w *Will, err error) {
	w = &Will{QoS: flags & flagWillQoS >> 3, Retain: flags&flagWillRetain != 0}
	if v5 {
		var props []byte
		if props, r.b, err = cutProperties(r.b); err != nil {
			return nil, err
		}
		if w.Properties, err = ParseProperties(props, willProperties); err != nil {
			return nil, err
		}
	}
	topic := r.bytes()
	w.Topic, w.Payload = string(topic), r.bytes()
	switch err := l.CheckTopic(topic); {
	case r.short:
		return nil, malformed("CONNECT cut short")
	case err != nil:
		return nil, err
	case len(topic) == 0: // [MQTT-4.7.3-1]
		return nil, &Violation{Reason: TopicNameInvalid, What: "will without a topic"}
	case topic[0] == '$':
		return nil, &Violation{Reason: TopicNameInvalid, Return: refusedRights, Denied: true, What: "will on a topic that begins with $, which are the broker's"}
	}
	return w, nil
}
