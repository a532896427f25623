package codec

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// Series is a format whose payloads can hold several readings, and times that
// are relative to that of their arrival.
type Series interface {
	Codec
	// At returns the format for payloads that came in so many seconds after
	// 1970.
	At(seconds float64) Codec
	// Split returns the readings of a payload, each as a payload of its own in
	// the same format, in order of time; nil if there is only one, or if the
	// payload makes no sense, which Find then reports.
	Split(payload []byte) [][]byte
}

// At implements [Series].
func (c senmlCodec) At(seconds float64) Codec { return senmlCodec{c.cbor, seconds} }

// reading is the records of one device at one time.
type reading struct {
	base    string
	time    float64
	records []senmlRecord
	names   map[string]bool
}

// instant is when a device measured.
type instant struct {
	base string
	time float64
}

// Split implements [Series]. A pack in which no name comes twice is one reading,
// whatever the times of its records. Otherwise the records of one base name and
// time are a reading; where a name comes twice in these, a further one.
func (c senmlCodec) Split(payload []byte) [][]byte {
	records, err := c.records(payload)
	if err != nil || distinctNames(records) {
		return nil
	}
	var readings []*reading
	open := map[instant]*reading{} // the last one of a base name and time
	var base, unit string
	var at, value, sum float64
	for _, r := range records {
		if r.Version != nil && *r.Version > 10 {
			return nil
		}
		set(&base, r.BaseName)
		set(&at, r.BaseTime)
		set(&unit, r.BaseUnit)
		set(&value, r.BaseValue)
		set(&sum, r.BaseSum)
		if r.Value == nil && r.Text == nil && r.Truth == nil && r.Data == nil && r.Sum == nil {
			continue // it only sets what the next ones begin with
		}
		id := instant{base, at + r.Time}
		to := open[id]
		if to == nil || to.names[r.Name] {
			to = &reading{base: base, time: id.time, names: map[string]bool{}}
			open[id] = to
			readings = append(readings, to)
		}
		to.names[r.Name] = true
		plain := senmlRecord{Name: r.Name, Unit: cmp.Or(r.Unit, unit), Value: plus(r.Value, value), Text: r.Text, Truth: r.Truth,
			Data: r.Data, Sum: plus(r.Sum, sum)}
		if len(to.records) == 0 {
			if base != "" {
				plain.BaseName = &to.base
			}
			plain.BaseTime = &to.time
		}
		to.records = append(to.records, plain)
	}
	slices.SortStableFunc(readings, func(a, b *reading) int { return cmp.Compare(a.time, b.time) })
	all := make([][]byte, len(readings))
	for i, r := range readings {
		if c.cbor {
			all[i], err = cbor.Marshal(r.records)
		} else {
			all[i], err = json.Marshal(r.records)
		}
		if err != nil {
			return nil
		}
	}
	return all
}

// distinctNames reports whether every record with a value has another name.
func distinctNames(records []senmlRecord) bool {
	names := map[string]bool{}
	for i := range records {
		r := &records[i]
		if r.Value == nil && r.Text == nil && r.Truth == nil && r.Data == nil && r.Sum == nil {
			continue
		}
		if names[r.Name] {
			return false
		}
		names[r.Name] = true
	}
	return true
}

func plus(x *float64, base float64) *float64 {
	if x == nil || base == 0 {
		return x
	}
	sum := *x + base
	return &sum
}
