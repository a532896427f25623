package forward

import (
	"mime"
	"strconv"
	"strings"

	"holdfast/gateway/event"
)

// EventType is the CloudEvents type of everything that Holdfast sends.
const EventType = "holdfast.event"

// AppendCloudEvent appends e, an event of b, as a CloudEvents 1.0 object in
// the JSON format, on one line without a line end. Its attributes:
//
//	id               gateway/epoch/stream/offset, the idempotency key
//	source           /gateways/GATEWAY/SOURCE/CLIENT, each part URI-escaped
//	type             holdfast.event
//	subject          the MQTT topic
//	time             when it happened
//	datacontenttype  as the source stated it, else application/json or
//	                 application/octet-stream by what the payload is
//	sequence         the offset in 20 digits: order within the stream
//	partitionkey     the ordering key
//	traceparent      where the source stated one
//	stream, received, replay   as in an item
//
// The payload is in data if it is JSON and not stated to be something else,
// otherwise in data_base64.
func (c *Encoder) AppendCloudEvent(dst []byte, b *Batch, e *event.Event) []byte {
	c.prepare(b, e)
	dst = append(dst, `{"specversion":"1.0",`...)
	dst = append(dst, c.head[1:]...)
	dst = strconv.AppendUint(dst, e.Offset, 10)
	dst = append(dst, `","source":"/gateways/`...)
	dst = appendSegment(dst, b.Gateway)
	dst = append(dst, '/')
	dst = appendSegment(dst, e.Source)
	if e.Client != "" {
		dst = append(dst, '/')
		dst = appendSegment(dst, e.Client)
	}
	dst = append(dst, `","type":"`+EventType+`","subject":"`...)
	dst = appendEscaped(dst, e.Topic)
	dst = append(dst, `","time":"`...)
	dst = c.happened.append(dst, e.Happened())
	kind, embed := contentType(e)
	dst = append(dst, `","datacontenttype":"`...)
	dst = appendEscaped(dst, kind)
	dst = append(dst, `","sequence":"`...)
	dst = appendPadded(dst, e.Offset)
	dst = append(dst, `","partitionkey":"`...)
	dst = appendEscaped(dst, e.OrderingKey())
	if e.Trace != "" {
		dst = append(dst, `","traceparent":"`...)
		dst = appendEscaped(dst, e.Trace)
	}
	dst = append(dst, `","stream":"`...)
	dst = appendEscaped(dst, b.Stream)
	dst = append(dst, `","received":"`...)
	dst = c.received.append(dst, e.Received)
	dst = append(dst, `","replay":`...)
	dst = strconv.AppendBool(dst, b.Replay)
	if embed {
		dst = appendJSON(append(dst, `,"data":`...), e.Payload)
	} else {
		dst = appendBase64(append(dst, `,"data_base64":"`...), e.Payload)
	}
	return append(dst, '}')
}

// contentType returns the type of the payload, and whether it is embedded as
// JSON. A consumer reads data as JSON only where the type says so.
func contentType(e *event.Event) (kind string, embed bool) {
	valid := isJSON(e.Payload)
	switch {
	case e.ContentType != "":
		return e.ContentType, valid && saysJSON(e.ContentType)
	case valid:
		return "application/json", true
	}
	return "application/octet-stream", false
}

func saysJSON(contentType string) bool {
	if contentType == "application/json" {
		return true
	}
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.HasSuffix(kind, "/json") || strings.HasSuffix(kind, "+json"))
}

// appendSegment appends s as one segment of a URI path.
func appendSegment(dst []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			c == '-' || c == '_' || c == '.' || c == '~' || c == ':' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		}
	}
	return dst
}

// appendPadded appends n with leading zeros, so that text sorts as numbers do.
func appendPadded(dst []byte, n uint64) []byte {
	var digits [20]byte
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
	return append(dst, digits[:]...)
}
