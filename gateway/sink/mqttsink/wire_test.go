package mqttsink_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/gateway/forward/sinktest"
)

func TestTheFarSideSeesWhatTheSettingsSay(t *testing.T) {
	e := event.Event{Epoch: 1, Offset: 9, Topic: "line/1", Payload: []byte("21.5"), Retain: true}
	one := forward.Batch{Gateway: "gw-1", Stream: "alerts", Events: []event.Event{e}}
	plain := one
	plain.Events = []event.Event{{Epoch: 1, Offset: 9, Topic: "line/1", Payload: []byte("21.5")}}
	for _, c := range []struct {
		name, yaml string
		b          forward.Batch
		want       publish
	}{
		{"defaults", "", one, publish{topic: "line/1", payload: "21.5", qos: 1, id: 1}},
		{"topic", `topic: "{stream}/{gateway}/x/{topic}"`, one, publish{topic: "alerts/gw-1/x/line/1", payload: "21.5", qos: 1, id: 1}},
		{"fixed topic", `topic: "$aws/rules/all"`, one, publish{topic: "$aws/rules/all", payload: "21.5", qos: 1, id: 1}},
		{"qos 0", "qos: 0", one, publish{topic: "line/1", payload: "21.5"}},
		{"retain kept", "retain: keep", one, publish{topic: "line/1", payload: "21.5", qos: 1, id: 1, retain: true}},
		{"retain kept, not set", "retain: keep", plain, publish{topic: "line/1", payload: "21.5", qos: 1, id: 1}},
		{"retain always", "retain: always", plain, publish{topic: "line/1", payload: "21.5", qos: 1, id: 1, retain: true}},
		{"item", "payload: item", plain, publish{topic: "line/1", qos: 1, id: 1,
			payload: `{"id":"gw-1/0000000000000001/alerts/9","stream":"alerts","offset":9,"topic":"line/1","source":"","key":"line/1",` +
				`"time":"1970-01-01T00:00:00.000000000Z","received":"1970-01-01T00:00:00.000000000Z","replay":false,"data":21.5}`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFar(t)
			if err := sendWithin(open(t, "url: "+f.url()+"\n"+c.yaml), patience, c.b); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the message", func() bool { return len(f.came()) > 0 })
			if diff := cmp.Diff([]publish{c.want}, f.came(), cmp.AllowUnexported(publish{})); diff != "" {
				t.Errorf("published (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheConnectionIsCleanAndNamedAfterGatewayAndDestination(t *testing.T) {
	f := newFar(t)
	s := open(t, "url: "+f.url()+"\nusername: u\npassword: p\nkeep_alive: 77s")
	if err := sendWithin(s, patience, numbered(1, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	const clean, password, username = 2, 64, 128
	want := slices.Concat(text("MQTT"), []byte{4, clean | password | username, 0, 77}, text("holdfast-gw-1-cloud"), text("u"), text("p"))
	if got := f.connections()[0].connect.body; !bytes.Equal(want, got) {
		t.Errorf("CONNECT %q, want %q", got, want)
	}
}

func TestThePasswordFileIsReadForEveryConnection(t *testing.T) {
	f := newFar(t)
	dir := t.TempDir()
	s := open(t, "url: "+f.url()+"\nusername: u\npassword_file: "+dir+"/token")
	if err := sendWithin(s, patience, numbered(1, 1)); err == nil || !strings.Contains(err.Error(), "read password_file") {
		t.Errorf("without the file: %v", err)
	}
	for n, token := range []string{"first", "second"} {
		write(t, dir+"/token", []byte(token+"\n"))
		if err := sendWithin(s, patience, numbered(n+1, 1)); err != nil {
			t.Fatal(err)
		}
		if got := f.connections()[n].connect.body; !bytes.HasSuffix(got, text(token)) {
			t.Errorf("CONNECT %q, want the password %q", got, token)
		}
		f.cut()
		eventually(t, "the sink knows that its connection is lost", s.(interface{ Idle() bool }).Idle)
	}
}

func TestOnlyEventsThatMQTTCannotCarryAreRefused(t *testing.T) {
	f := newFar(t)
	s := open(t, "url: "+f.url()+"\nmax_payload: 1KiB\ntopic: \"site/{topic}\"")
	b := numbered(1, 5)
	b.Events[1].Payload = make([]byte, 1025)
	b.Events[3].Topic = strings.Repeat("t", event.MaxTopicBytes-2)
	err := sendWithin(s, patience, b)
	var partial *forward.PartialError
	if !errors.As(err, &partial) || len(partial.Refused) != 2 || partial.Refused[1] == nil || partial.Refused[3] == nil {
		t.Fatalf("got %v, want events 1 and 3 refused", err)
	}
	if !strings.Contains(partial.Refused[1].Error(), "max_payload") || !strings.Contains(partial.Refused[3].Error(), "topic") {
		t.Errorf("reasons %v", partial.Refused)
	}
	if diff := cmp.Diff([]string{"1", "3", "5"}, payloads(f.taken())); diff != "" {
		t.Errorf("accepted (-want +got):\n%s", diff)
	}
}

func TestRefusedConnectionsAreExplained(t *testing.T) {
	for _, c := range []struct {
		name string
		code byte
		want string
	}{
		{"identifier", 2, "check client_id"},
		{"unavailable", 3, "server Unavailable"},
		{"password", 4, "check username, password"},
		{"not authorized", 5, "check username, password"},
		{"hang up", 255, "hung up"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFar(t)
			f.connack = func(conn *farConn) packet {
				if c.code == 255 {
					_ = conn.Close()
				}
				return packet{0x20, []byte{0, c.code}}
			}
			err := sendWithin(open(t, "url: "+f.url()), patience, numbered(1, 1))
			if err == nil || !strings.Contains(err.Error(), c.want) || forward.IsPermanent(err) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if n := len(f.connections()); n != 1 {
				t.Errorf("%d connections for one attempt", n)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		f := newFar(t)
		_ = f.listener.Close()
		err := sendWithin(open(t, "url: "+f.url()), patience, numbered(1, 1))
		if err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no CONNACK", func(t *testing.T) {
		f := newFar(t)
		f.connack = func(c *farConn) packet { <-t.Context().Done(); return packet{} }
		start := time.Now()
		if err := sendWithin(open(t, "url: "+f.url()), 100*time.Millisecond, numbered(1, 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took > sinktest.Soon {
			t.Errorf("Send took %v", took)
		}
	})
}
