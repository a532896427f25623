package mqttsink

import (
	"bytes"
	"strings"

	"github.com/tidwall/gjson"
)

// Origin is the source of events that came by a downlink; their client is the
// name of the destination whose far side they came from.
const Origin = "bridge"

// maxHops is how many gateways an item may have passed. It is nested once for
// each of them.
const maxHops = 8

// carries reports whether the payload is an item that has already been sent by
// the gateway, alone or inside the items of others, or by too many gateways.
func carries(payload []byte, gateway string) bool {
	if !bytes.HasPrefix(payload, []byte(`{"id":"`)) { // as items begin; most payloads are none
		return false
	}
	item := gjson.ParseBytes(payload)
	for range maxHops {
		id := item.Get("id")
		if id.Type != gjson.String || !item.Get("offset").Exists() || !item.Get("stream").Exists() {
			return false
		}
		if name, rest, ok := strings.Cut(id.String(), "/"); ok && name == gateway && strings.Count(rest, "/") == 2 {
			return true
		}
		if item = item.Get("data"); !item.IsObject() {
			return false
		}
	}
	return true
}
