package forward

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"holdfast/gateway/event"
)

// maxDepth is how deep a payload may nest and still be embedded as JSON:
// common decoders refuse what is deeper, and with it the whole batch.
const maxDepth = 500

// Encoder writes events as JSON for the far side. It remembers what follows
// events have in common, so one Encoder should serve one destination. The zero
// value is ready; it is not for concurrent use.
type Encoder struct {
	gateway, stream string
	epoch           uint64
	head            []byte // {"id":"gateway/epoch/stream/
	tail            []byte // ","stream":"…","offset":
	happened        stamp
	received        stamp
}

// AppendItem appends e, an event of b, as one JSON object on one line without
// a line end. The item has, in this order:
//
//	id           gateway/epoch/stream/offset, the idempotency key
//	stream       the stream's name
//	offset       the place in the stream, a number
//	topic        the MQTT topic
//	source       kind of source and instance, as in "mqtt/sensor-17"
//	key          the ordering key; the topic unless a rule set another
//	time         when it happened, RFC 3339 with nanoseconds in UTC
//	received     when the gateway took it in, likewise
//	replay       true when it is sent again on request
//	data         the payload, if that is JSON in UTF-8 ...
//	data_base64  ... or else the payload in base64
//
// All but the choice of the last two are always present. The payload is
// embedded as it came, so numbers keep their digits and objects their order;
// only line breaks between its tokens are left out.
func (c *Encoder) AppendItem(dst []byte, b *Batch, e *event.Event) []byte {
	c.prepare(b, e)
	dst = append(dst, c.head...)
	dst = strconv.AppendUint(dst, e.Offset, 10)
	dst = append(dst, c.tail...)
	dst = strconv.AppendUint(dst, e.Offset, 10)
	dst = append(dst, `,"topic":"`...)
	dst = appendEscaped(dst, e.Topic)
	dst = append(dst, `","source":"`...)
	dst = appendEscaped(dst, e.Source)
	if e.Client != "" {
		dst = append(dst, '/')
		dst = appendEscaped(dst, e.Client)
	}
	dst = append(dst, `","key":"`...)
	dst = appendEscaped(dst, e.OrderingKey())
	dst = append(dst, `","time":"`...)
	dst = c.happened.append(dst, e.Happened())
	dst = append(dst, `","received":"`...)
	dst = c.received.append(dst, e.Received)
	dst = append(dst, `","replay":`...)
	dst = strconv.AppendBool(dst, b.Replay)
	if isJSON(e.Payload) {
		dst = appendJSON(append(dst, `,"data":`...), e.Payload)
	} else {
		dst = appendBase64(append(dst, `,"data_base64":"`...), e.Payload)
	}
	return append(dst, '}')
}

// prepare renders what all events of one stream and epoch share.
func (c *Encoder) prepare(b *Batch, e *event.Event) {
	if c.head != nil && c.epoch == e.Epoch && c.stream == b.Stream && c.gateway == b.Gateway {
		return
	}
	c.gateway, c.stream, c.epoch = b.Gateway, b.Stream, e.Epoch
	id := e.ID(b.Gateway, b.Stream)
	id.Offset = 0
	prefix := id.String() // ends in "/0"
	c.head = append(c.head[:0], `{"id":"`...)
	c.head = appendEscaped(c.head, prefix[:len(prefix)-1])
	c.tail = append(c.tail[:0], `","stream":"`...)
	c.tail = appendEscaped(c.tail, b.Stream)
	c.tail = append(c.tail, `","offset":`...)
}

// stamp writes times. Events of a batch mostly share the second.
type stamp struct {
	second int64
	text   []byte // up to the second
}

func (s *stamp) append(dst []byte, t event.Time) []byte {
	second, nano := int64(t)/1e9, int64(t)%1e9
	if nano < 0 {
		second, nano = second-1, nano+1e9
	}
	if s.text == nil || s.second != second {
		s.second = second
		s.text = time.Unix(second, 0).UTC().AppendFormat(s.text[:0], "2006-01-02T15:04:05.")
	}
	dst = append(dst, s.text...)
	var digits [10]byte
	digits[9] = 'Z'
	for i := 8; i >= 0; i-- {
		digits[i] = byte('0' + nano%10)
		nano /= 10
	}
	return append(dst, digits[:]...)
}

// isJSON reports whether p can stand inside an item as it is. UTF-8 is asked
// for because many decoders refuse a batch, or alter it, for one bad byte.
func isJSON(p []byte) bool {
	return len(p) > 0 && !tooDeep(p) && gjson.ValidBytes(p) && utf8.Valid(p)
}

func tooDeep(p []byte) bool {
	if len(p) <= 2*maxDepth {
		return false
	}
	depth, quoted := 0, false
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// appendJSON appends valid JSON on one line. A line break in it can only stand
// between tokens, where it means nothing.
func appendJSON(dst, p []byte) []byte {
	if bytes.IndexByte(p, '\n') < 0 && bytes.IndexByte(p, '\r') < 0 {
		return append(dst, p...)
	}
	for _, c := range p {
		if c != '\n' && c != '\r' {
			dst = append(dst, c)
		}
	}
	return dst
}

// appendBase64 appends p and the closing quote.
func appendBase64(dst, p []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(dst, p), '"')
}

// appendEscaped appends s as the inside of a JSON string. Bytes that are not
// UTF-8 become U+FFFD.
func appendEscaped(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, width := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && width == 1 {
				dst = append(dst, s[from:i]...)
				dst = append(dst, "\uFFFD"...)
				from = i + 1
			}
			i += width
			continue
		}
		dst = append(dst, s[from:i]...)
		if c == '"' || c == '\\' {
			dst = append(dst, '\\', c)
		} else {
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
		i++
		from = i
	}
	return append(dst, s[from:]...)
}
