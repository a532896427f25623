package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// scripted is a broker for one client: answer says what it sends for a packet
// other than PINGREQ, nil that it hangs up.
func scripted(t *testing.T, answer func(p *packets.ControlPacket) []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for {
			p, err := packets.ReadPacket(c)
			if err != nil {
				return
			}
			b := []byte{0xD0, 0} // the client pings when it likes
			if p.Type != packets.PINGREQ {
				b = answer(p)
			}
			if b == nil {
				return
			}
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return l.Addr().String()
}

var (
	welcome = []byte{0x20, 3, 0, 0, 0}
	nothing = []byte{}
)

// puback is a PUBACK with a reason and a text.
func puback(id uint16, code byte, text string) []byte {
	properties := append([]byte{0x1F, 0, byte(len(text))}, text...)
	return append([]byte{0x40, byte(4 + len(properties)), byte(id >> 8), byte(id), code, byte(len(properties))}, properties...)
}

func dialScripted(t *testing.T, answer func(p *packets.ControlPacket) []byte) *session {
	t.Helper()
	f := mqttFlags{address: scripted(t, answer)}
	s, err := f.connect(t.Context(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

func TestWhatTheBrokerSaysOfAMessageIsToldToItsSender(t *testing.T) {
	s := dialScripted(t, func(p *packets.ControlPacket) []byte {
		switch c := p.Content.(type) {
		case *packets.Connect:
			return welcome
		case *packets.Publish:
			code := c.Payload[0]
			return puback(c.PacketID, code, "try tomorrow")
		}
		return nothing
	})
	for code, want := range map[byte]string{
		0: "", 0x10: "", 0x97: "refused: quota exceeded (0x97): try tomorrow", 0xEE: "refused: unknown reason (0xee): try tomorrow",
	} {
		err := s.publish(t.Context(), &paho.Publish{Topic: "a", QoS: 1, Payload: []byte{code}})(t.Context())
		if got := fmt.Sprint(err); got != want && (err != nil || want != "") {
			t.Errorf("%#x: got %q, want %q", code, got, want)
		}
	}
}

func TestAMessageThatTheBrokerSaysItCannotTakeIsNotSent(t *testing.T) {
	s := dialScripted(t, func(p *packets.ControlPacket) []byte {
		if p.Type == packets.CONNECT {
			return []byte{0x20, 7, 0, 0, 4, 0x24, 1, 0x25, 0} // QoS 1 at most, and no retained messages
		}
		return nothing
	})
	for want, m := range map[string]*paho.Publish{
		"give --qos 1":        {Topic: "a", QoS: 2},
		"leave --retain out":  {Topic: "a", QoS: 1, Retain: true},
		"no more than QoS 1;": {Topic: "a", QoS: 2, Retain: true},
	} {
		if err := s.publish(t.Context(), m)(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %s", m, err, want)
		}
	}
}

// The client's session forgets what waits for an answer when the connection is
// lost, and says nothing to who waits.
func TestALostConnectionEndsTheWaitForAcknowledgements(t *testing.T) {
	for name, goodbye := range map[string][]byte{"hangs up": nil, "says why": {0xE0, 1, 0x8B}} {
		count := 0
		s := dialScripted(t, func(p *packets.ControlPacket) []byte {
			if p.Type != packets.PUBLISH {
				return welcome
			}
			if count++; count < 3 {
				return nothing
			}
			return goodbye
		})
		var waits []func(context.Context) error
		for range 3 {
			waits = append(waits, s.publish(t.Context(), &paho.Publish{Topic: "a", QoS: 1}))
		}
		for _, wait := range waits {
			err := wait(t.Context())
			if err == nil || !strings.Contains(err.Error(), "was lost: ") || goodbye != nil && !strings.HasSuffix(err.Error(), "the broker ended it: server shutting down (0x8b)") {
				t.Errorf("%s: got %v", name, err)
			}
		}
		if err := s.publish(t.Context(), &paho.Publish{Topic: "a", QoS: 1})(t.Context()); err == nil || !strings.Contains(err.Error(), "was lost: ") {
			t.Errorf("%s: afterwards: got %v", name, err)
		}
	}
}

func TestLinesArePublishedInTheirOrder(t *testing.T) {
	const n = 2000
	got := make(chan string, n)
	s := dialScripted(t, func(p *packets.ControlPacket) []byte {
		switch c := p.Content.(type) {
		case *packets.Connect:
			return []byte{0x20, 6, 0, 0, 3, 0x21, 0, 20} // twenty at a time
		case *packets.Publish:
			got <- string(c.Payload)
			return puback(c.PacketID, 0, "")
		}
		return nothing
	})
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint("line ", i))
	}
	f := pubFlags{mqtt: mqttFlags{qos: 1}, timeout: time.Minute}
	if err := f.publishLines(t.Context(), s, "a", strings.NewReader(strings.Join(want, "\n")), io.Discard); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if line := <-got; line != want[i] {
			t.Fatalf("line %d came as %q", i, line)
		}
	}
}

func TestARefusedLineCostsNoOther(t *testing.T) {
	s := dialScripted(t, func(p *packets.ControlPacket) []byte {
		switch c := p.Content.(type) {
		case *packets.Connect:
			return welcome
		case *packets.Publish:
			if string(c.Payload) == "bad" {
				return puback(c.PacketID, 0x99, "")
			}
			return puback(c.PacketID, 0, "")
		}
		return nothing
	})
	f := pubFlags{mqtt: mqttFlags{qos: 1}, timeout: time.Minute}
	err := f.publishLines(t.Context(), s, "a", strings.NewReader("good\nbad\ngood\n"), io.Discard)
	var exit *exitError
	if !errors.As(err, &exit) || exit.code != exitPartial || err.Error() != `publish "a": 1 of 3 messages not acknowledged; the first: refused: payload format invalid (0x99)` {
		t.Errorf("got %v", err)
	}
}

func TestABrokerOfAnotherVersionIsSaidToBeOne(t *testing.T) {
	for name, answer := range map[string][]byte{"hangs up": nil, "answers as 3.1.1": {0x20, 2, 0, 1}} {
		f := mqttFlags{address: scripted(t, func(*packets.ControlPacket) []byte { return answer })}
		_, err := f.connect(t.Context(), "test", nil)
		if err == nil || !strings.Contains(err.Error(), "it must speak MQTT 5") || errors.Is(err, errBroker) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
