package ingest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/tidwall/gjson"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

const (
	maxKey = 1024 // bytes of an ordering key
	// maxTotal bounds the bytes of all events of a batch by event.Size: a
	// long topic in the path counts for each line.
	maxTotal = 2 * MostBody
)

// lineKeys are the keys of a line, and behind the first used those that are
// passed over.
var lineKeys = []string{
	"topic", "time", "key", "qos", "data", "data_base64",
	"id", "stream", "offset", "source", "received", "replay",
}

const used = 6

// batch reads the lines of one request.
type batch struct {
	base   event.Event // what all events have in common
	max    int
	topics map[string]string // the topics checked so far, each once in memory
	events []event.Event
	total  int
}

// memory is how much the events of a body may take, beside the body itself.
func (b *batch) memory(body []byte) int {
	return b.lines(body)*int(unsafe.Sizeof(event.Event{})) + len(body)
}

func (b *batch) lines(body []byte) int { return min(bytes.Count(body, []byte{'\n'})+1, b.max) }

// read makes events of all lines, or says what is wrong with one of them. The
// events share no memory with body.
func (b *batch) read(body []byte) error {
	b.events = make([]event.Event, 0, b.lines(body))
	for n := 1; len(body) > 0; n++ {
		var line []byte
		line, body, _ = bytes.Cut(body, []byte{'\n'})
		if line = bytes.Trim(line, " \t\r"); len(line) == 0 {
			continue
		}
		if len(b.events) == b.max {
			return problemf(http.StatusRequestEntityTooLarge, "the batch has more than %d events; send fewer at once", b.max)
		}
		e, err := b.line(line)
		if err != nil {
			p := problemf(http.StatusBadRequest, "line %d: %v", n, err)
			p.Line = n
			return p
		}
		b.events = append(b.events, e)
		if b.total += e.Size(); b.total > maxTotal {
			return problemf(http.StatusRequestEntityTooLarge, "the events of the batch have more than %d bytes with their topics; send fewer at once", maxTotal)
		}
	}
	if len(b.events) == 0 {
		return problemf(http.StatusBadRequest, "the batch has no events")
	}
	return nil
}

func (b *batch) line(line []byte) (event.Event, error) {
	e := b.base
	if err := checkJSON(line); err != nil {
		return e, err
	}
	var data string // the key that gave the payload
	var err error
	seen := 0 // bits, by index in lineKeys
	gjson.ParseBytes(line).ForEach(func(k, v gjson.Result) bool {
		i := slices.Index(lineKeys, k.Str)
		switch {
		case i < 0:
			err = unknownKey(k.Str)
		case seen>>i&1 == 1:
			err = fmt.Errorf("%s is there twice", k.Str)
		case i < used:
			err = b.set(&e, lineKeys[i], v, &data)
		}
		seen |= 1 << max(i, 0)
		return err == nil
	})
	switch {
	case err != nil:
		return e, err
	case data == "":
		return e, errors.New(`it has no payload; add "data", or "data_base64"`)
	case e.Topic == "":
		return e, errors.New(`it has no topic; add "topic", or name one in the path`)
	}
	if e.Key == e.Topic {
		e.Key = "" // as every item of a destination has one
	}
	return e, nil
}

func unknownKey(name string) error {
	name = shorten(name, 40)
	if near := config.Nearest(name, lineKeys[:used]); near != "" {
		return fmt.Errorf("unknown key %q, did you mean %q?", name, near)
	}
	return fmt.Errorf("unknown key %q; known are %s", name, strings.Join(lineKeys[:used], ", "))
}

// checkJSON reports why line is not a JSON object. encoding/json is asked
// because it bounds the depth and does not recurse.
func checkJSON(line []byte) error {
	if !json.Valid(line) {
		var any json.RawMessage
		err := json.Unmarshal(line, &any)
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return fmt.Errorf("it is not JSON at byte %d: %w", syntax.Offset, err)
		}
		return fmt.Errorf("it is not JSON: %w", err)
	}
	if !utf8.Valid(line) {
		return errors.New("it is not UTF-8")
	}
	if line[0] != '{' {
		return errors.New(`it is not a JSON object, such as {"topic": "a/b", "data": 21.5}`)
	}
	return nil
}

// set puts the value of one key into e. data becomes the key that gave the
// payload.
func (b *batch) set(e *event.Event, name string, v gjson.Result, data *string) (err error) {
	switch name {
	case "topic":
		e.Topic, err = b.topic(v)
	case "time":
		e.Time, err = readTime(v)
	case "key":
		if e.Key = strings.Clone(v.Str); v.Type != gjson.String || len(e.Key) > maxKey {
			err = fmt.Errorf("key must be a string of at most %d bytes", maxKey)
		}
	case "qos":
		if v.Raw != "0" && v.Raw != "1" && v.Raw != "2" {
			return errors.New("qos must be 0, 1 or 2")
		}
		e.QoS = v.Raw[0] - '0'
	case "data", "data_base64":
		if *data != "" {
			return fmt.Errorf("it has both %s and %s", *data, name)
		}
		*data = name
		if name == "data" {
			e.Payload, e.ContentType = []byte(v.Raw), "application/json"
			return nil
		}
		if v.Type != gjson.String {
			return errors.New("data_base64 must be a string")
		}
		if e.Payload, err = base64.StdEncoding.DecodeString(v.Str); err != nil {
			err = fmt.Errorf("data_base64: %w", err)
		}
	}
	return err
}

func (b *batch) topic(v gjson.Result) (string, error) {
	if v.Type != gjson.String {
		return "", errors.New("topic must be a string")
	}
	if t, ok := b.topics[v.Str]; ok {
		return t, nil
	}
	if err := checkTopic(v.Str); err != nil {
		return "", err
	}
	t := strings.Clone(v.Str)
	b.topics[t] = t
	return t, nil
}

// readTime reads when an event happened: text of RFC 3339, or a number of
// milliseconds since 1970.
func readTime(v gjson.Result) (event.Time, error) {
	wrong := fmt.Errorf("time %s is neither RFC 3339, such as \"2025-03-01T12:00:00.5Z\", nor a number of milliseconds since 1970", shorten(v.Raw, 40))
	var ns float64
	var t event.Time
	switch v.Type {
	case gjson.String:
		at, err := time.Parse(time.RFC3339Nano, v.Str)
		if err != nil {
			return 0, wrong
		}
		ns, t = float64(at.Unix())*1e9, event.At(at)
	case gjson.Number:
		ns = v.Num * 1e6
		t = event.Time(math.Round(v.Num*1e3)) * 1e3 // to the microsecond, which a float64 has exactly
	default:
		return 0, wrong
	}
	if ns < 1e6 || ns > math.MaxInt64-1e9 {
		return 0, fmt.Errorf("time %s is not between 1970 and 2262", shorten(v.Raw, 40))
	}
	return t, nil
}

// shorten keeps a message readable whatever it quotes.
func shorten(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
