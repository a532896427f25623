package packet

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
)

// Take a packet from a buffer, and answer it.
func Example() {
	reading := event.Event{Topic: "plant/pump", Payload: []byte("21.5"), ContentType: "text/plain"}
	buffer, _ := AppendPublish(nil, Delivery{Event: &reading, QoS: 1, ID: 7}, true, 0)

	h, ok, err := ReadHeader(buffer)
	if err != nil || !ok || len(buffer) < h.Len() {
		return // err says what is wrong, or there is more to come
	}
	if err := CheckFirst(h.First); err != nil {
		return
	}
	p, err := ParsePublish(h.First, buffer[h.Size:h.Len()], true)
	if err != nil {
		return
	}
	props, err := ParseProperties(p.Properties, PublishProperties)
	if err != nil {
		return
	}
	fmt.Printf("%s: %s, %s\n", p.Topic, p.Payload, props.ContentType)
	fmt.Printf("% x\n", AppendAck(nil, Ack{Type: TypePuback, ID: p.ID}, true))
	// Output:
	// plant/pump: 21.5, text/plain
	// 40 02 00 07
}

func bothVersions(t *testing.T, f func(t *testing.T, v5 bool)) {
	t.Run("mqtt311", func(t *testing.T) { f(t, false) })
	t.Run("mqtt5", func(t *testing.T) { f(t, true) })
}

// only splits a buffer that holds exactly one packet.
func only(t *testing.T, b []byte) (h Header, body []byte) {
	t.Helper()
	h, ok, err := ReadHeader(b)
	if err != nil || !ok || h.Len() != len(b) {
		t.Fatalf("% x is not one packet: %+v, %v, %v", b, h, ok, err)
	}
	if err := h.CheckLength(); err != nil {
		t.Fatal(err)
	}
	return h, b[h.Size:]
}

func TestAnEventIsReadAsItWasWritten(t *testing.T) {
	plain := event.Event{Topic: "a/b", Payload: []byte("x"), QoS: 2, Retain: true}
	rich := plain
	rich.ContentType, rich.Trace = "text/plain", "00-1-2-03"
	rich.Properties = &event.Properties{
		Expiry: 60, HasExpiry: true, UTF8: true, ResponseTopic: "reply", CorrelationData: []byte{0xff, 0},
		User: []event.Property{{Name: "k", Value: "v"}, {Name: "traceparent", Value: "00-1-2-03"}},
	}
	bothVersions(t, func(t *testing.T, v5 bool) {
		for _, e := range []event.Event{plain, rich} {
			b, ok := AppendPublish(nil, Delivery{Event: &e, QoS: e.QoS, ID: 300, Retain: e.Retain, Dup: true, Expiry: 60, Alias: 5}, v5, 0)
			if !ok {
				t.Fatal("not written")
			}
			h, body := only(t, b)
			if err := CheckFirst(h.First); err != nil {
				t.Fatal(err)
			}
			p, err := ParsePublish(h.First, body, v5)
			if err != nil {
				t.Fatal(err)
			}
			props, err := ParseProperties(p.Properties, PublishProperties)
			if err != nil {
				t.Fatal(err)
			}
			if p.ID != 300 || !p.Dup || v5 && props.TopicAlias != 5 {
				t.Errorf("got %+v with %+v", p, props)
			}
			got := event.Event{Topic: string(p.Topic), Payload: p.Payload, QoS: p.QoS, Retain: p.Retain}
			props.Apply(&got)
			want := plain
			if v5 {
				want = e
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-written +read:\n%s", diff)
			}
		}
	})
}

func TestAPublishIsWrittenInFullOrNotAtAll(t *testing.T) {
	e := event.Event{Topic: "t", Payload: bytes.Repeat([]byte("x"), 200), Properties: &event.Properties{UTF8: true}}
	bothVersions(t, func(t *testing.T, v5 bool) {
		whole, _ := AppendPublish(nil, Delivery{Event: &e, QoS: 1, ID: 1}, v5, 0)
		for limit, want := range map[int]bool{len(whole): true, len(whole) - 1: false} {
			b, ok := AppendPublish([]byte("before"), Delivery{Event: &e, QoS: 1, ID: 1}, v5, limit)
			if ok != want || !want && string(b) != "before" {
				t.Errorf("%d bytes with a limit of %d: %v, % x", len(whole), limit, ok, b)
			}
		}
	})
}

func TestATopicThatTheClientKnowsByItsAliasIsLeftOut(t *testing.T) {
	e := event.Event{Topic: "plant", Payload: []byte("x")}
	b, _ := AppendPublish(nil, Delivery{Event: &e, Alias: 9, Bare: true, SubscriptionIDs: []int{3, 300}}, true, 0)
	want := []byte{TypePublish << 4, 12, 0, 0, 8, PropTopicAlias, 0, 9, PropSubscriptionID, 3, PropSubscriptionID, 0xac, 2, 'x'}
	if !bytes.Equal(b, want) {
		t.Errorf("got % x, want % x", b, want)
	}
}

func TestAnAcknowledgementIsReadAsItWasWritten(t *testing.T) {
	bothVersions(t, func(t *testing.T, v5 bool) {
		for _, a := range []Ack{{TypePuback, Success, 1}, {TypePubrec, QuotaExceeded, 0x1234}, {TypePubrel, PacketIDNotFound, 9}, {TypePubcomp, Success, 0xffff}} {
			h, body := only(t, AppendAck(nil, a, v5))
			if err := CheckFirst(h.First); err != nil {
				t.Fatal(err)
			}
			want := a
			if !v5 {
				want.Reason = Success // it has none
			}
			if got, err := ParseAck(h.Type(), body, v5); err != nil || got != want {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		}
	})
}

func TestAnswersToTheLastByte(t *testing.T) {
	refused := &Violation{Reason: ClientIDNotValid, Return: 2}
	unknown := &Violation{Reason: MalformedPacket}
	for _, c := range []struct {
		name      string
		got, want []byte
	}{
		{"SUBACK", AppendSuback(nil, 7, []byte{1, QuotaExceeded}, true), []byte{0x90, 5, 0, 7, 0, 1, QuotaExceeded}},
		{"SUBACK of 3.1.1", AppendSuback(nil, 7, []byte{1, UnspecifiedError}, false), []byte{0x90, 4, 0, 7, 1, UnspecifiedError}},
		{"UNSUBACK", AppendUnsuback(nil, 7, []byte{NoSubscriptionExisted}, true), []byte{0xB0, 4, 0, 7, 0, NoSubscriptionExisted}},
		{"UNSUBACK of 3.1.1", AppendUnsuback(nil, 7, []byte{NoSubscriptionExisted}, false), []byte{0xB0, 2, 0, 7}},
		{"DISCONNECT", AppendDisconnect(nil, KeepAliveTimeout), []byte{0xE0, 2, KeepAliveTimeout, 0}},
		{"CONNACK", refused.AppendConnack(nil, true), []byte{0x20, 3, 0, ClientIDNotValid, 0}},
		{"CONNACK of 3.1.1", refused.AppendConnack(nil, false), []byte{0x20, 2, 0, 2}},
		{"what 3.1.1 has no CONNACK for", unknown.AppendConnack(nil, false), nil},
		{"PINGRESP", AppendPingresp(nil), []byte{0xD0, 0}},
	} {
		if !bytes.Equal(c.got, c.want) {
			t.Errorf("%s: got % x, want % x", c.name, c.got, c.want)
		}
	}
}

func TestAHeaderMayArriveByteByByte(t *testing.T) {
	whole := []byte{0x30, 0x80, 0x80, 0x80, 1}
	for n := range len(whole) {
		if _, ok, err := ReadHeader(whole[:n]); ok || err != nil {
			t.Errorf("% x: %v, %v, want more of it", whole[:n], ok, err)
		}
	}
	if h, ok, err := ReadHeader(whole); !ok || err != nil || h != (Header{First: 0x30, Size: 5, Remaining: 1 << 21}) {
		t.Errorf("got %+v, %v, %v", h, ok, err)
	}
}

func TestEverySizeNeedsItsBytes(t *testing.T) {
	for _, v := range []int{0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455} {
		b := AppendVarint([]byte{TypePublish << 4}, v)
		h, ok, err := ReadHeader(b)
		if !ok || err != nil || h.Remaining != v || h.CheckLength() != nil {
			t.Errorf("%d became % x, read as %+v, %v, %v, %v", v, b, h, ok, err, h.CheckLength())
		}
		if len(b) == 5 {
			continue
		}
		b[len(b)-1] |= 0x80
		if h, ok, err := ReadHeader(append(b, 0)); !ok || err != nil || h.Remaining != v || h.CheckLength() == nil {
			t.Errorf("%d with a byte that it does not need: %+v, %v, %v, %v", v, h, ok, err, h.CheckLength())
		}
	}
}

func TestAConnectIsReadAsItIs(t *testing.T) {
	body := AppendString(nil, "MQTT")
	body = append(body, 5|bridgeBit, flagUserName|flagPassword|flagWillRetain|1<<3|flagWill|flagClean, 0, 60)
	body = append(body, 3, PropReceiveMaximum, 0, 9)
	body = AppendString(body, "pump")
	body = append(body, 5, PropWillDelay, 0, 0, 0, 4)
	body = AppendString(AppendString(body, "gone/pump"), "dead")
	body = AppendString(AppendString(body, "user"), "secret")
	want := Connect{
		V5: true, Bridge: true, Clean: true, KeepAlive: 60, ClientID: "pump", Properties: []byte{PropReceiveMaximum, 0, 9},
		Will:        &Will{Topic: "gone/pump", Payload: []byte("dead"), QoS: 1, Retain: true, Properties: Properties{set: 1 << PropWillDelay, WillDelay: 4}},
		HasUserName: true, UserName: "user", HasPassword: true, Password: []byte("secret"),
	}
	got, err := limits.ParseConnect(body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Properties{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for n := range body {
		if _, err := limits.ParseConnect(body[:n]); err == nil {
			t.Errorf("taken though cut after %d bytes", n)
		}
	}
}

func TestWhatIsOverTheLimitsIsRefused(t *testing.T) {
	l := Limits{TopicBytes: 10, TopicLevels: 3, Filters: 2}
	subscribe := func(filters ...string) error {
		b := []byte{0, 1}
		for _, f := range filters {
			b = append(AppendString(b, f), 0)
		}
		_, err := l.ParseSubscribe(b, false)
		return err
	}
	connect := func(id string) error {
		_, err := l.ParseConnect(AppendString(append(AppendString(nil, "MQTT"), 4, flagClean, 0, 0), id))
		return err
	}
	long := strings.Repeat("x", 10)
	for _, c := range []struct {
		name     string
		fits     error
		over     error
		expected byte
	}{
		{"bytes of a topic", l.CheckTopic([]byte(long)), l.CheckTopic([]byte(long + "x")), TopicNameInvalid},
		{"levels of a topic", l.CheckTopic([]byte("a/b/c")), l.CheckTopic([]byte("a/b/c/d")), TopicNameInvalid},
		{"bytes of a filter", subscribe(long), subscribe(long + "x"), TopicFilterInvalid},
		{"levels of a filter", subscribe("a/b/#"), subscribe("a/b/c/#"), TopicFilterInvalid},
		{"filters of a packet", subscribe("a", "b"), subscribe("a", "b", "c"), QuotaExceeded},
		{"bytes of a client id", connect(long), connect(long + "x"), ClientIDNotValid},
	} {
		if c.fits != nil {
			t.Errorf("%s: what fits is refused: %v", c.name, c.fits)
		}
		var v *Violation
		if !errors.As(c.over, &v) || v.Reason != c.expected {
			t.Errorf("%s: got %v, want reason %#x", c.name, c.over, c.expected)
		}
	}
}

// What happens for each message costs no memory of its own.
func TestMessagesAndAcknowledgementsCostNoAllocation(t *testing.T) {
	e := event.Event{Topic: "plant/pump", Payload: []byte("21.5"), ContentType: "text/plain", Properties: &event.Properties{UTF8: true}}
	buf := make([]byte, 0, 1024)
	bothVersions(t, func(t *testing.T, v5 bool) {
		n := testing.AllocsPerRun(100, func() {
			b, _ := AppendPublish(buf, Delivery{Event: &e, QoS: 1, ID: 1}, v5, 0)
			h, _, _ := ReadHeader(b)
			if p, err := ParsePublish(h.First, b[h.Size:], v5); err != nil || limits.CheckTopic(p.Topic) != nil {
				t.Fatal(err)
			}
			b = AppendAck(buf, Ack{Type: TypePuback, ID: 1}, v5)
			if _, err := ParseAck(TypePuback, b[2:], v5); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}
