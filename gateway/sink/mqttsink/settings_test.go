package mqttsink_test

import (
	"strings"
	"testing"

	"holdfast/gateway/config"
	"holdfast/gateway/sink/mqttsink"
)

func TestTheSampleIsAccepted(t *testing.T) {
	s := section(t, mqttsink.Kind.Sample)
	if _, err := mqttsink.Kind.New(s); err != nil {
		t.Fatal(err)
	}
	if source, err := mqttsink.Kind.Source(s); err != nil || source == nil {
		t.Fatalf("source %v, error %v", source, err)
	}
	if mqttsink.Kind.Name != "mqtt" || mqttsink.Kind.Doc == "" {
		t.Errorf("kind %+v", mqttsink.Kind)
	}
}

func TestWithoutSubscribeAndStatusThereIsNoSource(t *testing.T) {
	if s, err := mqttsink.Kind.Source(section(t, "url: tcp://h")); s != nil || err != nil {
		t.Errorf("source %v, error %v", s, err)
	}
}

func TestMistakesInTheSettingsAreShownAtTheirPlace(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"no url", "qos: 1", `"url" is missing`},
		{"other scheme", "url: http://h", "2:8: url must begin with tcp://"},
		{"no scheme", "url: 'broker:1883'", "2:8: url must begin with tcp://"},
		{"no host", "url: tcp://:1883", "2:8: url must begin"},
		{"unreadable url", "url: 'tcp://[::1'", "2:8: url cannot be read"},
		{"password in the url", "url: tcp://user:hunter2@h", "use username and password"},
		{"path", "url: tcp://h/x", "only ws:// and wss:// take a path"},
		{"qos 2", "url: tcp://h\nqos: 2", "3:8:"},
		{"payload", "url: tcp://h\npayload: items", `did you mean "item"?`},
		{"retain", "url: tcp://h\nretain: yes", "3:11:"},
		{"max_inflight", "url: tcp://h\nmax_inflight: 0", "3:17:"},
		{"keep_alive", "url: tcp://h\nkeep_alive: 1s", "3:15:"},
		{"topic with a wildcard", "url: tcp://h\ntopic: 'a/#'", "3:10: invalid topic"},
		{"unknown placeholder", "url: tcp://h\ntopic: 'a/{topics}'", "did you mean {topic}?"},
		{"placeholder of client_id", "url: tcp://h\nclient_id: '{topic}'", "known are {gateway}, {destination}"},
		{"open brace", "url: tcp://h\ntopic: 'a/{topic'", "a { without a }"},
		{"two passwords", "url: tcp://h\nusername: u\npassword: p\npassword_file: f", "exclude each other"},
		{"password alone", "url: tcp://h\npassword: p", "a password needs a username"},
		{"half a key pair", "url: ssl://h\ntls: {cert: c.pem}", "belong together"},
		{"tls without tls", "url: tcp://h\ntls: {ca: c.pem}", "no effect on this URL"},
		{"empty alpn", "url: ssl://h\ntls: {alpn: ['']}", "1 to 255 bytes"},
		{"same client ids", "url: tcp://h\nclient_id: x\nsubscribe_client_id: x", "must differ"},
		{"status without a topic", "url: tcp://h\nstatus: {online: hi}", `"topic" is missing`},
		{"status topic", "url: tcp://h\nstatus: {topic: 'a/+'}", "3:19: invalid topic"},
		{"bad filter", "url: tcp://h\nsubscribe: [{topic: 'a/#/b'}]", "3:23: invalid topic"},
		{"shared subscription", "url: tcp://h\nsubscribe: [{topic: '$share/g/a'}]", "only some of the messages"},
		{"filter twice", "url: tcp://h\nsubscribe: [{topic: a}, {topic: a}]", "3:35: \"a\" is subscribed to already"},
		{"subscribe qos 2", "url: tcp://h\nsubscribe: [{topic: a, qos: 2}]", "3:31:"},
		{"bad to", "url: tcp://h\nsubscribe: [{topic: a, to: 'down/{stream}'}]", "{stream} is not known"},
		{"topic of the broker", "url: tcp://h\nsubscribe: [{topic: '$aws/#'}]", "cannot begin with $"},
		{"to the broker", "url: tcp://h\nsubscribe: [{topic: a, to: '$x'}]", "cannot begin with $"},
		{"empty peer", "url: tcp://h\npeers: ['']", "cannot be empty"},
		{"unknown key", "url: tcp://h\nsubscribes: []", `did you mean "subscribe"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := mqttsink.Kind.New(section(t, c.yaml))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestThePresetsAreAccepted(t *testing.T) {
	t.Setenv("MQTT_PASSWORD", "change-me")
	for name, yaml := range mqttsink.Presets(t) {
		t.Run(name, func(t *testing.T) {
			s, err := config.LoadBytes("doc.go", []byte(yaml))
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range s.Child("destinations").Children() {
				own := d.Allow("type", "from", "topics", "start", "batch", "timeout")
				if _, err := mqttsink.Kind.New(own); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
