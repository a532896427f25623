package storage

import (
	"bytes"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
)

var update = flag.Bool("update", false, "write the golden files anew")

// everything has every field of the record format set.
func everything() []event.Event {
	return []event.Event{
		{
			Time: 1700000000_000000001, Received: 1700000001_000000002, Mono: 5 * time.Second, Boot: 3,
			Topic: "plant/1/temp", Source: "mqtt", Client: "sensor-1", Key: "k", ContentType: "application/json",
			Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Payload: []byte(`{"t":21}`), QoS: 2, Retain: true,
			Properties: &event.Properties{
				Expiry: 60, HasExpiry: true, UTF8: true, ResponseTopic: "reply", CorrelationData: []byte{1, 0, 2},
				User: []event.Property{{Name: "a", Value: "b"}, {Name: "a", Value: ""}},
			},
			Cause: &event.ID{Gateway: "g", Epoch: 0xdeadbeef, Stream: "events", Offset: 77},
		},
		{Received: 1700000001_000000001, Mono: 4 * time.Second, Boot: 4, Topic: "plant/1/temp", Source: "rule", Client: "r"},
		{Received: 1, Topic: "ü/é", Payload: bytes.Repeat([]byte("x"), 300), Properties: &event.Properties{}},
	}
}

func encode(events []event.Event) []byte {
	var e encoder
	e.reset()
	for i := range events {
		e.add(&events[i])
	}
	return sealBlock(nil, &e, 9, 41)
}

func TestARecordComesBackWithEveryField(t *testing.T) {
	want := everything()
	got, err := openBlock(encode(want))
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		want[i].Epoch, want[i].Offset = 9, 41+uint64(i)
		if want[i].Payload == nil {
			want[i].Payload = []byte{}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// The bytes of version 1 are on customers' disks: these files may never change.
// Compressed bytes may, for there are several ways to say the same in S2; what
// was written must be read.
func TestTheRecordFormatIsFrozen(t *testing.T) {
	const body, block = "testdata/body-v1.bin", "testdata/block-v1.bin"
	var e encoder
	e.reset()
	for _, ev := range everything() {
		e.add(&ev)
	}
	if *update {
		for path, b := range map[string][]byte{body: e.buf, block: encode(everything())} {
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	want, err := os.ReadFile(body)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(e.buf, want) {
		t.Error("records are written otherwise than in format v1: give the new format a new version")
	}
	if want, err = os.ReadFile(block); err != nil {
		t.Fatal(err)
	}
	events, err := openBlock(want)
	if err != nil {
		t.Fatalf("a block of version 1 is not read: %v", err)
	}
	if now, _ := openBlock(encode(everything())); !cmp.Equal(events, now) {
		t.Error("a block of version 1 is read otherwise than it was written")
	}
}

func TestADamagedBlockIsNoticed(t *testing.T) {
	block := encode(everything())
	for i := range block {
		bad := bytes.Clone(block)
		bad[i] ^= 0x10
		if _, err := openBlock(bad); err == nil {
			t.Errorf("byte %d of %d was changed and nobody noticed", i, len(block))
		}
	}
	for n := range block {
		if _, err := openBlock(block[:n]); err == nil {
			t.Errorf("cut to %d of %d bytes and nobody noticed", n, len(block))
		}
	}
}

func FuzzOpenBlock(f *testing.F) {
	f.Add(encode(everything()))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if len(b) > 6 { // past the checksum, into the decoder
			var d decoder
			d.b = b[6:]
			for len(d.b) > 0 {
				var ev event.Event
				if d.next(&ev) != nil {
					break
				}
			}
		}
		_, _ = openBlock(b)
		_, _ = parseIndex(b)
	})
}
