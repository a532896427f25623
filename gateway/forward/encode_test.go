package forward_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/gateway/forward/sinktest"
)

var update = flag.Bool("update", false, "write the golden files")

// specimens are events of every shape that the formats distinguish.
func specimens() forward.Batch {
	at := event.At(time.Date(2026, 3, 1, 12, 0, 0, 7, time.UTC))
	events := []event.Event{
		{Topic: "plant/line1/temp", Source: "mqtt", Client: "sensor-17", Payload: []byte(`{"temp":21.50,"id":12345678901234567890}`), Time: at},
		{Topic: "plant/line1/note", Source: "mqtt", Client: "sensor-17", Payload: []byte("hello"), ContentType: "text/plain"},
		{Topic: "plant/line1/raw", Source: "device", Client: "bme280", Payload: []byte{0, 1, 0xff}},
		{Topic: "plant/line1/gone", Source: "mqtt", Client: "sensor-17", Retain: true},
		{Topic: "plant/line1/pretty", Source: "http", Payload: []byte("{\r\n  \"a\": [1,\n 2]\n}\n"), ContentType: "application/json; charset=utf-8"},
		{Topic: "alerts/hot", Source: "rule", Client: "too hot", Key: "line1", Payload: []byte("true"), Trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", ContentType: "application/json", Cause: &event.ID{}},
		{Topic: "größe/\"quoted\"\\\t\x01/a", Source: "mqtt", Client: "a/b c?d#e%f\u2028\xff", Payload: []byte(`"caf\u00e9"`), ContentType: "application/senml+json"},
		{Topic: "plant/line1/json-as-text", Source: "mqtt", Client: "s", Payload: []byte(`17`), ContentType: "text/plain"},
		{Topic: "plant/line1/bad-utf8", Source: "mqtt", Client: "s", Payload: []byte("{\"a\":\"\xff\"}")},
		{Topic: "plant/line1/old", Source: "mqtt", Client: "s", Payload: []byte(`null`), Time: -1},
	}
	for i := range events {
		e := &events[i]
		e.Epoch, e.Offset = 0x0123456789abcdef, uint64(41+i)
		e.Received = at.Add(time.Duration(i) * 400 * time.Millisecond)
	}
	events[len(events)-1].Epoch = 0xfedcba9876543210 // repaired in the middle of a batch
	return forward.Batch{Gateway: "Werk 1", Stream: "events", Events: events}
}

func TestFormatsStayAsTheyAre(t *testing.T) {
	for _, f := range []forward.Format{forward.NDJSON, forward.JSON, forward.CloudEvents} {
		t.Run(string(f), func(t *testing.T) {
			var c forward.Encoder
			b := specimens()
			got := c.AppendBatch(nil, f, &b)
			golden := filepath.Join("testdata", string(f)+".golden")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			again := c.AppendBatch([]byte("before"), f, &b)
			if string(again) != "before"+string(got) {
				t.Error("a second batch by the same encoder differs")
			}
		})
	}
}

func TestAReplaySaysSo(t *testing.T) {
	var c forward.Encoder
	b := specimens()
	b.Replay = true
	items, err := sinktest.ParseLines(c.AppendBatch(nil, forward.NDJSON, &b))
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range items {
		if !i.Replay {
			t.Errorf("item %s does not say that it is replayed", i.ID)
		}
	}
}

func TestACloudEventHasWhatTheSpecificationAsksFor(t *testing.T) {
	var c forward.Encoder
	b := specimens()
	var events []map[string]any
	if err := json.Unmarshal(c.AppendBatch(nil, forward.CloudEvents, &b), &events); err != nil {
		t.Fatal(err)
	}
	for i, e := range events {
		for _, name := range []string{"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "sequence", "partitionkey"} {
			if s, _ := e[name].(string); s == "" {
				t.Errorf("event %d: attribute %s is %v", i, name, e[name])
			}
		}
		for name := range e {
			if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" && name != "data_base64" {
				t.Errorf("event %d: attribute %q may have lower-case letters and digits only", i, name)
			}
		}
		if e["specversion"] != "1.0" || e["id"] != b.Events[i].ID(b.Gateway, b.Stream).String() {
			t.Errorf("event %d: %v", i, e)
		}
		if strings.ContainsAny(e["source"].(string), " ?#\\\"") {
			t.Errorf("event %d: source %q is not a URI reference", i, e["source"])
		}
	}
}

func TestAPayloadThatNestsTooDeepDoesNotSpoilTheBatch(t *testing.T) {
	for depth, embedded := range map[int]bool{400: true, 600: false, 200_000: false} {
		p := strings.Repeat("[", depth) + strings.Repeat("]", depth)
		b := forward.Batch{Events: []event.Event{{Payload: []byte(p)}}}
		items, err := sinktest.ParseLines(new(forward.Encoder).AppendBatch(nil, forward.NDJSON, &b))
		if err != nil {
			t.Fatalf("depth %d: %v", depth, err)
		}
		if got := items[0].Data != nil; got != embedded {
			t.Errorf("depth %d: embedded %v, want %v", depth, got, embedded)
		}
		if string(items[0].Payload()) != p {
			t.Errorf("depth %d: the payload changed", depth)
		}
	}
}

// FuzzEncode decodes what was encoded with the standard library and compares.
func FuzzEncode(f *testing.F) {
	b := specimens()
	for _, e := range b.Events {
		f.Add(e.Topic, e.Client, e.Key, e.ContentType, e.Payload, int64(e.Time), e.Offset)
	}
	f.Fuzz(func(t *testing.T, topic, client, key, contentType string, payload []byte, at int64, offset uint64) {
		e := event.Event{
			Epoch: offset ^ 0xabc, Offset: offset, Time: event.Time(at), Received: event.Time(-at),
			Topic: topic, Source: "mqtt", Client: client, Key: key, ContentType: contentType, Payload: payload,
		}
		b := forward.Batch{Gateway: client, Stream: topic, Events: []event.Event{e, e}}
		var c forward.Encoder

		lines := c.AppendBatch(nil, forward.NDJSON, &b)
		items, err := sinktest.ParseLines(lines)
		if err != nil || len(items) != 2 {
			t.Fatalf("%d items, %v\n%s", len(items), err, lines)
		}
		valid := func(s string) string { return string([]rune(s)) } // as encoding/json replaces bad bytes
		source := "mqtt"
		if client != "" {
			source += "/" + client
		}
		got := items[1]
		want := sinktest.Item{
			ID: valid(e.ID(b.Gateway, b.Stream).String()), Stream: valid(topic), Offset: offset, Topic: valid(topic),
			Source: valid(source), Key: valid(e.OrderingKey()), Time: e.Happened().Std(), Received: e.Received.Std(),
			Data: got.Data, DataBase64: got.DataBase64,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		samePayload(t, payload, got.Data, got.DataBase64)

		var array []sinktest.Item
		if err := json.Unmarshal(c.AppendBatch(nil, forward.JSON, &b), &array); err != nil || len(array) != 2 {
			t.Fatalf("%d items, %v", len(array), err)
		}
		samePayload(t, payload, array[0].Data, array[0].DataBase64)

		var events []struct {
			ID, Subject, Sequence, DataContentType string
			Data                                   json.RawMessage
			DataBase64                             *[]byte `json:"data_base64"`
		}
		if err := json.Unmarshal(c.AppendBatch(nil, forward.CloudEvents, &b), &events); err != nil || len(events) != 2 {
			t.Fatalf("%d events, %v", len(events), err)
		}
		if ce := events[1]; ce.ID != want.ID || ce.Subject != valid(topic) || len(ce.Sequence) != 20 || ce.DataContentType == "" {
			t.Fatalf("cloud event %+v", ce)
		}
		samePayload(t, payload, events[1].Data, events[1].DataBase64)
	})
}

func samePayload(t *testing.T, payload []byte, data json.RawMessage, encoded *[]byte) {
	t.Helper()
	switch {
	case encoded != nil:
		if string(*encoded) != string(payload) {
			t.Fatalf("data_base64 is %q, want %q", *encoded, payload)
		}
	case !json.Valid(payload):
		t.Fatalf("data is %q, but the payload %q is not JSON", data, payload)
	default:
		var got, want any
		if json.Unmarshal(data, &got) == nil && json.Unmarshal(payload, &want) == nil && !cmp.Equal(got, want) {
			t.Fatalf("data is %q, want %q", data, payload)
		}
		if strings.ContainsAny(string(data), "\r\n") {
			t.Fatalf("data %q has a line break", data)
		}
	}
}

func TestEncodingDoesNotAllocate(t *testing.T) {
	b := benchBatch(100)
	for _, f := range []forward.Format{forward.NDJSON, forward.JSON, forward.CloudEvents} {
		var c forward.Encoder
		buf := c.AppendBatch(nil, f, &b)
		if n := testing.AllocsPerRun(10, func() { buf = c.AppendBatch(buf[:0], f, &b) }); n > 0 {
			t.Errorf("%s: %v allocations a batch", f, n)
		}
	}
}

func benchBatch(n int) forward.Batch {
	b := forward.Batch{Gateway: "gw-0123456789", Stream: "events"}
	at := event.At(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	payload := []byte(`{"device":"sensor-0017","seq":123456,"temp":21.53,"humidity":48.2,"pressure":1013.25,"battery":3.71,"status":"okay"}` + "    ")[:120]
	for i := range n {
		b.Events = append(b.Events, event.Event{
			Epoch: 7, Offset: uint64(1_000_000 + i), Topic: "plant/line1/sensor-0017/telemetry", Source: "mqtt", Client: "sensor-0017",
			Time: at.Add(time.Duration(i) * 12345), Received: at.Add(time.Duration(i) * 12347), Payload: payload,
		})
	}
	return b
}

func BenchmarkEncode(b *testing.B) {
	binary := benchBatch(500)
	for i := range binary.Events {
		binary.Events[i].Payload = bytes.Repeat([]byte{0xab, 0xcd, 0x1f}, 40)
	}
	for _, c := range []struct {
		name   string
		format forward.Format
		batch  forward.Batch
	}{
		{"format=ndjson/payload=json", forward.NDJSON, benchBatch(500)},
		{"format=ndjson/payload=binary", forward.NDJSON, binary},
		{"format=cloudevents/payload=json", forward.CloudEvents, benchBatch(500)},
	} {
		b.Run(c.name, func(b *testing.B) {
			var enc forward.Encoder
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				buf = enc.AppendBatch(buf[:0], c.format, &c.batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(c.batch.Events)), "ns/event")
			b.SetBytes(int64(len(buf)))
		})
	}
}
