package broker

// reasons are the names of what a client can do against the protocol, by the
// reason codes of MQTT 5.
var reasons = map[byte]string{
	0:                  "connect_timeout",
	codeMalformed:      "malformed_packet",
	codeProtocol:       "protocol_error",
	codeBadVersion:     "unsupported_version",
	codeBadClientID:    "client_id_invalid",
	codeBadAuthMethod:  "bad_authentication_method",
	codeBadFilter:      "topic_filter_invalid",
	codeBadTopic:       "topic_name_invalid",
	codeReceiveMaximum: "receive_maximum_exceeded",
	codeBadAlias:       "topic_alias_invalid",
	codeTooLarge:       "packet_too_large",
	codeQuota:          "quota_exceeded",
}

// violations returns how often each reason closed a connection.
func (b *Broker) violations() map[string]uint64 {
	all := make(map[string]uint64, len(reasons))
	for code, name := range reasons {
		all[name] = b.count.violations[code].Load()
	}
	return all
}
