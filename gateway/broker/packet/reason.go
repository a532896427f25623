package packet

// Reason codes (2.4), as far as a server gives or looks at them, by the names
// that they have there.
const (
	Success                 = 0x00
	DisconnectWithWill      = 0x04
	NoSubscriptionExisted   = 0x11
	UnspecifiedError        = 0x80
	MalformedPacket         = 0x81
	ProtocolError           = 0x82
	UnsupportedVersion      = 0x84
	ClientIDNotValid        = 0x85
	NotAuthorized           = 0x87
	ServerShuttingDown      = 0x8B
	BadAuthenticationMethod = 0x8C
	KeepAliveTimeout        = 0x8D
	SessionTakenOver        = 0x8E
	TopicFilterInvalid      = 0x8F
	TopicNameInvalid        = 0x90
	PacketIDNotFound        = 0x92
	ReceiveMaximumExceeded  = 0x93
	TopicAliasInvalid       = 0x94
	PacketTooLarge          = 0x95
	QuotaExceeded           = 0x97
)

// Return codes of the CONNACK of 3.1.1 (3.2.2.3 there).
const (
	refusedVersion  = 1
	refusedClientID = 2
	refusedRights   = 5
)

// Violation is a breach of the protocol, which ends the connection.
type Violation struct {
	// Reason is the reason code that MQTT 5 has for it.
	Reason byte
	// Return is the return code for the CONNACK of 3.1.1, 0 if that has none.
	// There is no other way to tell a 3.1.1 client: it is disconnected without
	// a word.
	Return byte
	// Denied says that it is no breach: the client may not do this.
	Denied bool
	// What was wrong, for the log.
	What string
}

func (v *Violation) Error() string { return v.What }

func malformed(what string) error     { return &Violation{Reason: MalformedPacket, What: what} }
func protocolError(what string) error { return &Violation{Reason: ProtocolError, What: what} }

// AppendConnack appends the CONNACK (3.2) that refuses a CONNECT, if the
// version has one for that.
func (v *Violation) AppendConnack(b []byte, v5 bool) []byte {
	switch {
	case v5:
		return append(b, TypeConnack<<4, 3, 0, v.Reason, 0)
	case v.Return != 0:
		return append(b, TypeConnack<<4, 2, 0, v.Return)
	}
	return b
}
