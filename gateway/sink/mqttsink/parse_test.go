package mqttsink

import (
	"bytes"
	"strings"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

func TestTemplatesFillInTheirNames(t *testing.T) {
	for text, want := range map[string]string{
		"{topic}":               "a/b",
		"fixed":                 "fixed",
		"x/{gateway}/{topic}":   "x/gw/a/b",
		"{gateway}{gateway}":    "gwgw",
		"{topic}/tail":          "a/b/tail",
		"ä/{stream}":            "ä/events",
		"{stream}-{topic}-rest": "events-a/b-rest",
	} {
		tpl, err := parseTemplate(text, topicNames...)
		if got := tpl.render("a/b", "gw", "events"); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"{", "}", "a}b", "{topic", "{}", "{ topic }", "{{topic}}", "{topic}}"} {
		if _, err := parseTemplate(text, topicNames...); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{"{topic}", "a{gateway}b", "{", "}", "{}", "plain"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tpl, err := parseTemplate(text, "topic", "gateway")
		if err != nil {
			return
		}
		want := strings.NewReplacer("{topic}", "T", "{gateway}", "G").Replace(text)
		if got := tpl.render("T", "G"); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	})
}

func TestTheGuardJudgesTheSameHoweverTheBytesCome(t *testing.T) {
	good := bytes.Join([][]byte{
		{0x20, 2, 1, 0},                      // CONNACK
		{0x90, 4, 0, 1, 1, 0x80},             // SUBACK for two filters
		{0x40, 2, 0, 9},                      // PUBACK
		{0xd0, 0},                            // PINGRESP
		{0x32, 0x85, 0x01},                   // PUBLISH
		bytes.Repeat([]byte{0x00}, 0x85+0),   // its body: a length of two bytes
		{0x3b, 7, 0, 1, 'a', 0, 1, 'x', 'y'}, // PUBLISH, repeated and retained
	}, nil)
	for size := 1; size <= len(good); size++ {
		var g guard
		g.filters.Store(2)
		for rest := good; len(rest) > 0; {
			n := min(size, len(rest))
			if err := g.check(rest[:n]); err != nil {
				t.Fatalf("in pieces of %d: %v", size, err)
			}
			rest = rest[n:]
		}
		if g.n != 0 || g.left != 0 {
			t.Fatalf("in pieces of %d: it waits for more", size)
		}
	}
}

// FuzzGuard checks that paho's reader gets along with whatever passes.
func FuzzGuard(f *testing.F) {
	f.Add([]byte{0x20, 2, 0, 0, 0x40, 2, 0, 1})
	f.Add([]byte{0x20, 2, 0, 0, 0x90, 3, 0, 1, 0, 0xd0, 0})
	f.Add([]byte{0x20, 2, 0, 0, 0x30, 5, 0, 1, 'a', 'b', 'c'})
	f.Fuzz(func(t *testing.T, stream []byte) {
		var g guard
		g.filters.Store(1)
		if g.check(stream) != nil {
			return
		}
		r := bytes.NewReader(stream)
		for r.Len() > 0 {
			p, err := packets.ReadPacket(r)
			if err != nil {
				return // paho gives the connection up
			}
			if s, ok := p.(*packets.SubackPacket); ok && len(s.ReturnCodes) != 1 {
				t.Fatalf("a SUBACK with %d codes passed", len(s.ReturnCodes))
			}
		}
	})
}
