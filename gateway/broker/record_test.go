package broker

import (
	"reflect"
	"testing"
	"time"
)

func TestAPlaceIsReadAsItWasWritten(t *testing.T) {
	p := place{
		connected: true, left: 5 * time.Second, lastID: 77, pending: 9, bytes: 1000, delivered: 300, outcome: outcome{dropped: 4, expired: 5},
		next:     map[string]uint64{"events": 12, "alerts": 3},
		marks:    []placeMark{{3, 400, time.Minute, map[string]uint64{"events": 13}}},
		window:   []placeSent{{id: 7, qos: 2, retain: true, released: true, size: 99, stream: "events", offset: 10}, {id: 8, qos: 1, offset: 4, topic: "r/1", stream: "alerts"}},
		returned: []placeSent{{stream: "events", offset: 3, group: "$share/g/t"}},
	}
	got, err := parsePlace(p.append(nil))
	if err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("got %+v, %v, want %+v", got, err, p)
	}
}

func TestAPlaceOfTheFirstVersionIsRead(t *testing.T) {
	b := append([]byte{1, 1, 5, 77, 9, 100, 1, 6}, "events"...)
	b = append(b, 1, 0, 12, 0, 0, 0)
	want := place{connected: true, left: 5, lastID: 77, pending: 9, bytes: 100, next: map[string]uint64{"events": 12}}
	if got, err := parsePlace(b); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func FuzzPlace(f *testing.F) {
	p := place{next: map[string]uint64{"events": 12}, window: []placeSent{{id: 7, qos: 2, stream: "events", offset: 10, topic: "t"}}}
	f.Add(p.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePlace(b)
		if err != nil {
			return
		}
		again, err := parsePlace(p.append(nil))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%+v became %+v, %v", p, again, err)
		}
	})
}
