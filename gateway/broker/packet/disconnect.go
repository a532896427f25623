package packet

import "strings"

// Disconnect is a DISCONNECT (3.14).
type Disconnect struct {
	Reason           byte
	SessionExpiry    uint32 // the Session Expiry Interval, in seconds
	HasSessionExpiry bool
}

// Reason codes that a client may give (table 3-10).
const disconnectReasons = "\x00\x04\x80\x81\x82\x83\x90\x93\x94\x95\x96\x97\x98\x99"

// ParseDisconnect takes a DISCONNECT apart.
func ParseDisconnect(body []byte, v5 bool) (d Disconnect, err error) {
	if len(body) == 0 {
		return d, nil
	}
	if !v5 {
		return d, malformed("DISCONNECT of the wrong length")
	}
	if d.Reason = body[0]; strings.IndexByte(disconnectReasons, d.Reason) < 0 { // [MQTT-3.14.2-1]
		return d, protocolError("DISCONNECT with a reason that a client does not have")
	}
	if len(body) > 1 {
		props, err := lastProperties(body[1:], disconnectProperties)
		if err != nil {
			return d, err
		}
		d.SessionExpiry, d.HasSessionExpiry = props.SessionExpiry, props.Has(PropSessionExpiry)
	}
	return d, nil
}

// AppendDisconnect appends a DISCONNECT with a reason, which MQTT 5 alone has:
// there is none from the server in 3.1.1.
func AppendDisconnect(b []byte, reason byte) []byte {
	return append(b, TypeDisconnect<<4, 2, reason, 0)
}
