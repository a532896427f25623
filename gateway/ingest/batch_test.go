package ingest

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
)

func TestTheWholeBatchIsOneCallToTheLogInItsOrder(t *testing.T) {
	m := &memory{}
	calls := 0
	m.emit = func(_ context.Context, events []event.Event, done func(error)) error {
		calls++
		m.keep(events)
		done(nil)
		return nil
	}
	q := lines(`{"topic":"a/b","time":"2025-03-01T12:00:00.5+01:00","key":"k","qos":0,"data": {"n": 1.10, "x":[1,2] }}` + "\r\n\n" +
		` {"data_base64":"/9j/4AA=","time":1740830400123}` + "\n" +
		`{"data":null,"topic":"a\/\u00fc","qos":2,"time":1740830400123.5}`)
	q.path, q.header["Traceparent"] = "/path/topic", trace
	s := start(t, m, Options{})
	if a := send(t, s, q); a.Status != 200 || a.Accepted != 3 || calls != 1 {
		t.Fatalf("%d calls, %+v", calls, a)
	}
	e := event.Event{Source: "http", Client: "127.0.0.1", QoS: 1, Trace: trace}
	want := []event.Event{e, e, e}
	want[0].Topic, want[0].Time, want[0].Key, want[0].QoS = "a/b", 1740826800.5e9, "k", 0
	want[0].Payload, want[0].ContentType = []byte(`{"n": 1.10, "x":[1,2] }`), "application/json"
	want[1].Topic, want[1].Time, want[1].Payload = "path/topic", 1740830400123e6, []byte("\xff\xd8\xff\xe0\x00")
	want[2].Topic, want[2].Time, want[2].QoS = "a/ü", 1740830400123.5e6, 2
	want[2].Payload, want[2].ContentType = []byte("null"), "application/json"
	if diff := cmp.Diff(want, m.taken()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := s.Stats(); got != (Stats{Events: 3}) {
		t.Errorf("counted %+v", got)
	}
}

func TestAMistakeIsNamedWithItsLineAndNothingIsTaken(t *testing.T) {
	const good = `{"topic":"a","data":1}` + "\n"
	for name, test := range map[string]struct {
		path, text, want string
		line             int
	}{
		"not JSON":            {"", good + "{\"topic\":\"a\",data:1}\n" + good, "line 2: it is not JSON at byte 14: invalid character 'd'", 2},
		"cut short":           {"", good + "\n" + `{"topic":"a"`, "line 3: it is not JSON at byte 12: unexpected end", 3},
		"two on a line":       {"", `{"topic":"a","data":1} {}`, "line 1: it is not JSON at byte 24", 1},
		"array":               {"", `[{"topic":"a","data":1}]`, "line 1: it is not a JSON object", 1},
		"not UTF-8":           {"", "{\"topic\":\"a\",\"data\":\"\xff\"}", "line 1: it is not UTF-8", 1},
		"no topic":            {"", `{"data":1}`, "line 1: it has no topic", 1},
		"empty topic":         {"/a", `{"data":1,"topic":""}`, "line 1: invalid topic: it is empty", 1},
		"wildcard":            {"", good + `{"data":1,"topic":"a/#"}`, "line 2: invalid topic: \"a/#\" has the wildcard", 2},
		"topic of the broker": {"", `{"data":1,"topic":"$SYS/x"}`, "topics that begin with $ belong to the gateway", 1},
		"null in a topic":     {"", `{"data":1,"topic":"a\u0000"}`, "null character", 1},
		"deep topic":          {"", `{"data":1,"topic":"` + strings.Repeat("/", 128) + `"}`, "more than 128 levels", 1},
		"topic of a number":   {"", `{"data":1,"topic":5}`, "topic must be a string", 1},
		"no payload":          {"/a", `{}`, "line 1: it has no payload", 1},
		"two payloads":        {"/a", `{"data":1,"data_base64":""}`, "it has both data and data_base64", 1},
		"not base64":          {"/a", `{"data_base64":"%%"}`, "data_base64: illegal base64", 1},
		"base64 of a number":  {"/a", `{"data_base64":7}`, "data_base64 must be a string", 1},
		"time in words":       {"/a", `{"data":1,"time":"noon"}`, `time "noon" is neither RFC 3339`, 1},
		"time without zone":   {"/a", `{"data":1,"time":"2025-03-01T12:00:00"}`, "is neither RFC 3339", 1},
		"time before 1970":    {"/a", `{"data":1,"time":-5}`, "time -5 is not between 1970 and 2262", 1},
		"time beyond 2262":    {"/a", `{"data":1,"time":9300000000000}`, "is not between", 1},
		"time of ns":          {"/a", `{"data":1,"time":1740830400123000000}`, "is not between", 1},
		"year 9999":           {"/a", `{"data":1,"time":"9999-03-01T12:00:00Z"}`, "is not between", 1},
		"time as a list":      {"/a", `{"data":1,"time":[1]}`, "is neither RFC 3339", 1},
		"qos 3":               {"/a", `{"data":1,"qos":3}`, "qos must be 0, 1 or 2", 1},
		"long key":            {"/a", `{"data":1,"key":"` + strings.Repeat("k", 1025) + `"}`, "key must be a string of at most 1024 bytes", 1},
		"key of a number":     {"/a", `{"data":1,"key":1}`, "key must be a string", 1},
		"misspelt":            {"/a", `{"data":1,"tpoic":"b"}`, `unknown key "tpoic", did you mean "topic"?`, 1},
		"unknown":             {"/a", `{"data":1,"zzzzzz":"b"}`, `unknown key "zzzzzz"; known are topic, time`, 1},
		"twice":               {"/a", `{"data":1,"time":1,"time":2}`, "time is there twice", 1},
		"nothing":             {"/a", "\n \n", "the batch has no events", 0},
		"deep JSON":           {"/a", `{"data":` + strings.Repeat("[", 1<<20), "exceeded max depth", 1},
		"path with wildcard":  {"/a/+", good, "the path: invalid topic", 0},
		"path of the broker":  {"/$SYS/x", good, "the path: invalid topic", 0},
		"path not UTF-8":      {"/%ff", good, "is not UTF-8", 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := &memory{}
			q := lines(test.text)
			q.path = test.path
			s := start(t, m, Options{})
			a := send(t, s, q)
			if a.Status != 400 || !strings.Contains(a.Detail, test.want) || a.Line != test.line || a.Header.Get("Retry-After") != "" {
				t.Errorf("answer %d, line %d: %s\nwant %q", a.Status, a.Line, a.Detail, test.want)
			}
			if len(m.taken()) != 0 || s.Stats() != (Stats{Invalid: 1}) {
				t.Errorf("took %v, counted %+v", m.taken(), s.Stats())
			}
		})
	}
}

func TestTheItemsOfAnHTTPDestinationAreTaken(t *testing.T) {
	m := &memory{}
	a := send(t, start(t, m, Options{}), lines(
		`{"id":"g/00000000000000ff/events/7","stream":"events","offset":7,"topic":"a/b","source":"mqtt/s","key":"a/b",`+
			`"time":"2025-03-01T12:00:00.000000000Z","received":"2025-03-01T12:00:01.000000000Z","replay":false,"data":{"v":1}}`))
	if a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	want := []event.Event{{Topic: "a/b", Source: "http", Client: "127.0.0.1", Time: 1740830400e9, QoS: 1,
		ContentType: "application/json", Payload: []byte(`{"v":1}`)}}
	if diff := cmp.Diff(want, m.taken()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
