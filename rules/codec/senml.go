package codec

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// senmlCodec reads SenML packs, RFC 8428, in JSON or with integer labels in
// CBOR (section 6).
type senmlCodec struct {
	cbor bool
	now  float64 // that relative times refer to, in seconds since 1970; 0: unknown
}

func (c senmlCodec) String() string {
	if c.cbor {
		return "senml-cbor"
	}
	return "senml"
}

// senmlRecord is a record as it is written, RFC 8428 section 4. Labels that end
// in _ must be understood (section 4.4).
type senmlRecord struct {
	BaseName  *string  `json:"bn,omitempty" cbor:"-2,keyasint,omitempty"`
	BaseTime  *float64 `json:"bt,omitempty" cbor:"-3,keyasint,omitempty"`
	BaseUnit  *string  `json:"bu,omitempty" cbor:"-4,keyasint,omitempty"`
	BaseValue *float64 `json:"bv,omitempty" cbor:"-5,keyasint,omitempty"`
	BaseSum   *float64 `json:"bs,omitempty" cbor:"-6,keyasint,omitempty"`
	Version   *float64 `json:"bver,omitempty" cbor:"-1,keyasint,omitempty"`
	Name      string   `json:"n,omitempty" cbor:"0,keyasint,omitempty"`
	Unit      string   `json:"u,omitempty" cbor:"1,keyasint,omitempty"`
	Value     *float64 `json:"v,omitempty" cbor:"2,keyasint,omitempty"`
	Text      *string  `json:"vs,omitempty" cbor:"3,keyasint,omitempty"`
	Truth     *bool    `json:"vb,omitempty" cbor:"4,keyasint,omitempty"`
	Sum       *float64 `json:"s,omitempty" cbor:"5,keyasint,omitempty"`
	Time      float64  `json:"t,omitempty" cbor:"6,keyasint,omitempty"`
	Data      any      `json:"vd,omitempty" cbor:"8,keyasint,omitempty"`
}

var errNoRecords = errors.New("the SenML pack has no records")

// records decodes a payload.
func (c senmlCodec) records(payload []byte) (records []senmlRecord, err error) {
	if c.cbor {
		err = cborMode.Unmarshal(payload, &records)
	} else {
		err = json.Unmarshal(payload, &records)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("the payload is not a SenML pack: %w", err)
	case len(records) == 0:
		return nil, errNoRecords
	}
	return records, nil
}

// pack decodes a payload to the fields that package codec describes.
func (c senmlCodec) pack(payload []byte) (map[string]any, error) {
	records, err := c.records(payload)
	if err != nil {
		return nil, err
	}
	fields := map[string]any{}
	units := map[string]any{}
	var base, unit string
	var at, value, sum float64
	newest := math.Inf(-1)
	for i := range records {
		r := &records[i]
		if r.Version != nil && *r.Version > 10 {
			return nil, fmt.Errorf("the SenML pack has version %v, known is 10", *r.Version)
		}
		set(&base, r.BaseName)
		set(&at, r.BaseTime)
		set(&unit, r.BaseUnit)
		set(&value, r.BaseValue)
		set(&sum, r.BaseSum)
		if t := at + r.Time; t > newest {
			newest = t
		}
		name := r.Name
		if name == "" {
			name = base
		}
		switch {
		case r.Value != nil:
			fields[name] = *r.Value + value
		case r.Text != nil:
			fields[name] = *r.Text
		case r.Truth != nil:
			fields[name] = *r.Truth
		case r.Data != nil:
			fields[name] = data(r.Data)
		case r.Sum != nil:
			fields[name] = *r.Sum + sum
		default:
			continue
		}
		if u := r.Unit; u != "" {
			units[name] = u
		} else if unit != "" {
			units[name] = unit
		}
	}
	if len(fields) == 1 {
		for _, v := range fields {
			fields["value"] = v
		}
	}
	addMissing(fields, "bn", base)
	// Times below 2^28 are relative to now, and none is now (section 4.5.3).
	if newest < 1<<28 && c.now > 0 {
		newest += c.now
	}
	if newest >= 1<<28 {
		addMissing(fields, "t", newest)
	}
	addMissing(fields, "units", units)
	return fields, nil
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func addMissing(fields map[string]any, name string, v any) {
	if _, taken := fields[name]; !taken && v != "" {
		fields[name] = v
	}
}

// data is a data value as base64 text.
func data(v any) any {
	switch x := v.(type) {
	case string:
		return x // in JSON it is base64url already
	case []byte:
		return base64.RawURLEncoding.EncodeToString(x)
	}
	return nil
}

// Find implements [Codec].
func (c senmlCodec) Find(payload []byte, t *Tree, pass uint64) error {
	fields, err := c.pack(payload)
	if err != nil {
		return err
	}
	t.root(fields, pass)
	return nil
}

// AppendJSON implements [Codec]: the fields, sorted by name.
func (c senmlCodec) AppendJSON(dst, payload []byte) ([]byte, error) {
	fields, err := c.pack(payload)
	if err != nil {
		return dst, err
	}
	return appendAny(dst, fields)
}
