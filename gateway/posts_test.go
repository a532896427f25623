package gateway

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"

	"holdfast/gateway/ingest"
)

func TestEventsPostedOverHTTPAreEventsLikeAnyOther(t *testing.T) {
	dir, sink := t.TempDir(), newMemory()
	g, stop := run(t, dir, hotRule+"ingest: {listen: 127.0.0.1:0, tokens: {plc-1: change-me}}\nstreams: {vibration: {topics: ['vib/#']}}\n", sink)
	heard := make(chan string, 10)
	wait(t, client(t, g, "panel").Subscribe("plant/1/temp", 1, func(_ paho.Client, m paho.Message) { heard <- string(m.Payload()) }))
	post := func(token string) *http.Response {
		t.Helper()
		body := `{"topic":"plant/1/temp","data":{"temperature":93}}` + "\n" + `{"topic":"vib/1","data":7}`
		r, err := http.NewRequest(http.MethodPost, "http://"+g.ingest.Addr()+"/v1/events", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-ndjson")
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	if r := post("guess"); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a wrong token: %s", r.Status)
	}
	if r := post("change-me"); r.StatusCode != http.StatusOK {
		t.Fatalf("the right token: %s", r.Status)
	}
	e := sink.await(t, "events", 1)[0]
	if e.Topic != "plant/1/temp" || e.Source != "http" || e.Client != "plc-1" || e.Received == 0 {
		t.Errorf("the event is %+v", e)
	}
	if a := sink.await(t, "alerts", 1)[0]; a.Cause == nil || a.Cause.Offset != e.Offset {
		t.Errorf("the alert is %+v", a)
	}
	if got := <-heard; got != `{"temperature":93}` {
		t.Errorf("a subscriber heard %s", got)
	}
	if n := g.log.Stream("vibration").Status().Next; n != 2 {
		t.Errorf("the next offset of the stream that claims vib/# is %d, want 2", n)
	}
	stop()
	if _, err := http.Get("http://" + g.ingest.Addr()); err == nil {
		t.Error("the gateway has stopped, and still takes requests")
	}
}

func TestEventsAreTakenOverHTTPOnlyWhereThatIsConfigured(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "",
		"ingest: {}":                          "127.0.0.1:8481",
		"ingest: {listen: off}":               "",
		"ingest: {listen: '[::1]:1'}":         "[::1]:1",
		"ingest: {listen: 0.0.0.0:8481}":      "name those who may send",
		"ingest: {listen: :8481, tokens: {}}": "name those who may send",
		"ingest: {listen: :8481, tokens: {a: \"${file:token}\"}}":   ":8481",
		"ingest: {listen: :8481, tokens: {a: x, b: x}}":             "the token b is the same as another",
		"ingest: {listen: :8481, tokens: {a: \"${file:empty}\"}}":   "there is no secret in ",
		"ingest: {listen: :8481, tokens: {a: \"${file:nothing}\"}}": "nothing",
		"ingest: {listen: :8481, tokens: {'a b': x}}":               `"a b" cannot name a token`,
		"ingest: {listen: :8481, tokens: {a: two words}}":           "the token a cannot be used",
		"ingest: {listen: 8481}":                                    "is not an address",
		"ingest: {max_body: 16MiB}":                                 "max_body must be at most 8MiB",
		"ingest: {max_events: 0}":                                   "max_events must be at least 1",
		"ingest: {token: x}":                                        `unknown key "token", did you mean "tokens"?`,
		"ingest: off":                                               "ingest must be a mapping",
	} {
		dir := writeConfig(t, map[string]string{"c.yaml": text + "\n", "token": "secret\n", "empty": "\n"})
		c, err := Load([]string{filepath.Join(dir, "c.yaml")}, fakeParts())
		switch {
		case err == nil && c.Ingest.Listen != want, err != nil && !strings.Contains(err.Error(), want), err != nil && want == "":
			t.Errorf("%s: got %v, want %q", text, err, want)
		case err == nil && len(c.Ingest.Tokens) > 0 && c.Ingest.Tokens["a"].Reveal() != "secret":
			t.Errorf("%s: the token is %q", text, c.Ingest.Tokens["a"].Reveal())
		case err == nil && c.Ingest.Listen != "" && (c.Ingest.MaxBody != ingest.MostBody || c.Ingest.MaxEvents != ingest.MostEvents):
			t.Errorf("%s: %+v", text, c.Ingest)
		}
	}
}
