package codec

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/tinylib/msgp/msgp"
)

// find returns the named fields of a payload as one line; a name with a * in
// front is bare as well.
func find(c Codec, payload []byte, names ...string) string {
	var t Tree
	var slots []*Slot
	for _, name := range names {
		name, bare := strings.CutPrefix(name, "*")
		s := &Slot{Path: strings.Split(name, "."), Bare: bare}
		slots = append(slots, s)
		t.Add(s)
	}
	if err := c.Find(payload, &t, 7); err != nil {
		return "error: " + err.Error()
	}
	var got []string
	for i, s := range slots {
		switch {
		case !s.Found(7):
			got = append(got, names[i]+" -")
		case s.Raw != "":
			got = append(got, names[i]+" "+s.Raw)
		default:
			got = append(got, fmt.Sprintf("%s %T %v", names[i], s.Value, s.Value))
		}
	}
	return strings.Join(got, ", ")
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFieldsOfCBOR(t *testing.T) {
	for _, tt := range []struct{ name, payload, fields, want string }{
		{"map", "a2 61 61 01 61 62 82 02 03", "a b.1 b c", "a float64 1, b.1 float64 3, b []interface {} [2 3], c -"}, // RFC 8949 appendix A
		{"indefinite map", "bf 63 46 75 6e f5 63 41 6d 74 21 ff", "Amt Fun", "Amt float64 -2, Fun bool true"},
		{"indefinite list", "a1 61 61 9f 01 82 02 03 9f 04 05 ff ff", "a.2.1 a.0", "a.2.1 float64 5, a.0 float64 1"},
		{"indefinite text", "a1 61 61 7f 65 73 74 72 65 61 64 6d 69 6e 67 ff", "a", "a string streaming"},
		{"floats", "a3 61 61 f9 3e 00 61 62 fa 47 c3 50 00 61 63 fb 3f f1 99 99 99 99 99 9a", "a b c", "a float64 1.5, b float64 100000, c float64 1.1"},
		{"large numbers", "a2 61 61 1b ff ff ff ff ff ff ff ff 61 62 1b 00 20 00 00 00 00 00 01", "a b", "a float64 1.8446744073709552e+19, b int64 9007199254740993"},
		{"big number", "a1 61 61 c2 49 01 00 00 00 00 00 00 00 00", "a", "a float64 1.8446744073709552e+19"},
		{"number as key", "a1 01 63 6f 6e 65", "1", "1 string one"},
		{"bytes", "a1 61 61 44 01 02 03 04", "a", "a string AQIDBA=="},
		{"tagged time", "a1 61 61 c1 1a 51 4b 67 b0", "a", "a float64 1.36389624e+09"},
		{"self-described", "d9 d9 f7 a1 61 61 01", "a", "a float64 1"},
		{"null", "a1 61 61 f6", "a", "a -"},
		{"the first of equal names", "a2 61 61 01 61 61 02", "a", "a float64 1"},
		{"bare", "18 2a", "*value", "*value float64 42"},
		{"text", "62 6f 6e", "*value", "*value string on"},
		{"cut off", "a2 61 61", "a", "error: the payload is not CBOR: unexpected EOF"},
		{"something behind it", "01 02", "a", "error: the payload is not CBOR: 1 bytes of extraneous data starting at index 1"},
		{"nothing", "", "a", "error: the payload is not CBOR: EOF"},
		{"deep", strings.Repeat("81", 100) + "01", "a", "error: the payload is not CBOR: exceeded max nested level 64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := find(CBOR, unhex(t, tt.payload), strings.Fields(tt.fields)...); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestFieldsOfMessagePack(t *testing.T) {
	for _, tt := range []struct{ name, payload, fields, want string }{
		{"map", "82 a7 63 6f 6d 70 61 63 74 c3 a6 73 63 68 65 6d 61 00", "compact schema x", "compact bool true, schema float64 0, x -"}, // the page of msgpack.org
		{"nested", "81 a1 61 93 01 cb 3f f1 99 99 99 99 99 9a a1 78", "a.1 a.2 a.0", "a.1 float64 1.1, a.2 string x, a.0 float64 1"},
		{"numbers", "84 a1 61 d1 ff 38 a1 62 cf ff ff ff ff ff ff ff ff a1 63 ca 3f c0 00 00 a1 64 ff", "a b c d",
			"a float64 -200, b float64 1.8446744073709552e+19, c float64 1.5, d float64 -1"},
		{"number as key", "81 05 a1 78", "5", "5 string x"},
		{"binary", "81 a1 61 c4 02 01 02", "a", "a string AQI="},
		{"null", "81 a1 61 c0", "a", "a -"},
		{"bare", "a2 6f 6e", "*value", "*value string on"},
		{"cut off", "82 a1 61", "a", "error: the payload is not MessagePack: too few bytes left to read object"},
		{"something behind it", "01 02", "a", "error: the payload is not MessagePack: something follows behind the value"},
		{"nothing", "", "a", "error: the payload is not MessagePack: too few bytes left to read object"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := find(MessagePack, unhex(t, tt.payload), strings.Fields(tt.fields)...); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestFieldsOfSenML(t *testing.T) {
	for _, tt := range []struct{ name, payload, fields, want string }{
		{"RFC 8428 section 5.1.1", `[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]`, "*value bn t",
			"*value float64 23.1, bn -, t -"},
		{"section 5.1.3", `[{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},` +
			`{"n":"current","t":-5,"v":1.2},{"n":"current","t":-4,"v":1.3},{"n":"current","v":1.7}]`,
			"voltage current bn t units.voltage units.current",
			"voltage float64 120.1, current float64 1.7, bn string urn:dev:ow:10e2073a0108006:, t float64 1.276020076001e+09, units.voltage string V, units.current string A"},
		{"other values", `[{"n":"open","vb":false},{"n":"id","vs":"x y"},{"n":"raw","vd":"AQID"},{"n":"sum","s":4,"bs":3},{"bv":10,"n":"off","v":-1}]`,
			"open id raw sum off", "open bool false, id string x y, raw string AQID, sum float64 7, off float64 9"},
		{"no pack", `{"n":"a","v":1}`, "a", "error: the payload is not a SenML pack: json: cannot unmarshal object into Go value of type []codec.senmlRecord"},
		{"no records", `[]`, "a", "error: the SenML pack has no records"},
		{"version", `[{"bver":11,"n":"a","v":1}]`, "a", "error: the SenML pack has version 11, known is 10"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := find(SenML, []byte(tt.payload), strings.Fields(tt.fields)...); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	// RFC 8428 section 6: the pack of 5.1.3 in CBOR, shortened.
	pack, err := cbor.Marshal([]map[int]any{{-2: "urn:dev:ow:10e2073a0108006:", -3: 1.276020076e9, -4: "A", 0: "voltage", 1: "V", 2: 120.1}, {0: "current", 6: -5, 2: 1.2}})
	if err != nil {
		t.Fatal(err)
	}
	want := "voltage float64 120.1, current float64 1.2, t float64 1.276020076e+09, units.current string A"
	if got := find(SenMLCBOR, pack, "voltage", "current", "t", "units.current"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestFieldsOfText(t *testing.T) {
	for payload, want := range map[string]string{
		"23.5":    "*value codec.Plain 23.5",
		" on\n":   "*value codec.Plain  on\n",
		`"on"`:    `*value codec.Plain "on"`,
		`{"a":1}`: "*value -",
		"{oops":   "*value codec.Plain {oops",
	} {
		if got := find(Text, []byte(payload), "*value"); got != want {
			t.Errorf("%q: got %s, want %s", payload, got, want)
		}
	}
	if got := find(Text, []byte(`{"a":1}`), "a"); got != "a 1" {
		t.Errorf("an object as text: %s", got)
	}
}

func TestFormatsAreKnownByNameAndContentType(t *testing.T) {
	for mime, want := range map[string]Codec{
		"": JSON, "application/json": JSON, "application/octet-stream": JSON, "Application/CBOR": CBOR, "application/cbor; q=1": CBOR,
		"application/msgpack": MessagePack, "application/x-msgpack": MessagePack, "application/vnd.msgpack": MessagePack,
		"application/senml+json": SenML, "application/senml+cbor": SenMLCBOR, "text/plain;charset=utf-8": Text, "application/vnd.x+cbor": CBOR,
	} {
		if got := ByContentType(mime); got != want {
			t.Errorf("%q is %v, want %v", mime, got, want)
		}
	}
	for _, c := range All() {
		if got, ok := ByName(c.String()); !ok || got != c {
			t.Errorf("%v is not known by its name", c)
		}
		if got := ByContentType(ContentType(c)); got != c {
			t.Errorf("the content type of %v is that of %v", c, got)
		}
	}
	if _, ok := ByName("xml"); ok {
		t.Error("xml is known")
	}
}

func TestPayloadsBecomeJSON(t *testing.T) {
	inCBOR, err := cbor.Marshal(map[string]any{"a": []any{1, 2.5, "x<y"}, "b": true})
	if err != nil {
		t.Fatal(err)
	}
	inMessagePack, err := msgp.AppendIntf(nil, map[string]any{"a": []any{1, 2.5, "x<y"}, "b": true})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"a": []any{1., 2.5, "x<y"}, "b": true}
	for c, payload := range map[Codec][]byte{JSON: []byte("{\"a\": [1,\n 2.5, \"x<y\"], \"b\": true}"), CBOR: inCBOR, MessagePack: inMessagePack} {
		b, err := c.AppendJSON([]byte("in front "), payload)
		text, ok := strings.CutPrefix(string(b), "in front ")
		var got any
		if err != nil || !ok || strings.Contains(text, "\n") || json.Unmarshal([]byte(text), &got) != nil || !cmp.Equal(want, got) {
			t.Errorf("%v: %s, %v", c, b, err)
		}
	}
	nan, err := cbor.Marshal(math.NaN())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CBOR.AppendJSON(nil, nan); err == nil {
		t.Error("NaN became JSON")
	}
}

// fuzz checks what holds for every codec: no panic, the same twice, and what
// Find finds is what AppendJSON writes.
func fuzz(f *testing.F, c Codec, seeds ...[]byte) {
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		names := []string{"a", "b.1", "b.c", "*value", "n", "t", "units.a", "0", "1"}
		got := find(c, payload, names...)
		if again := find(c, payload, names...); got != again {
			t.Fatalf("%s, then %s", got, again)
		}
		if s, ok := c.(Series); ok {
			for _, reading := range s.Split(payload) {
				if got := find(c, reading, names...); strings.HasPrefix(got, "error") || s.Split(reading) != nil {
					t.Fatalf("the reading %q of %q: %s", reading, payload, got)
				}
			}
		}
		b, err := c.AppendJSON(nil, payload)
		if err != nil {
			return
		}
		if !json.Valid(b) {
			t.Fatalf("not JSON: %q", b)
		}
		if strings.HasPrefix(got, "error") && c != JSON {
			t.Fatalf("%q becomes JSON, but %s", payload, got)
		}
	})
}

func FuzzCBOR(f *testing.F) {
	fuzz(f, CBOR, []byte{0xa2, 0x61, 'a', 1, 0x61, 'b', 0x82, 2, 3}, []byte{0xbf, 0x61, 'a', 0xf5, 0xff}, []byte{0x18, 42}, []byte{0xa1, 1, 0xc2, 0x49, 1, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{0x9f, 1, 0xff})
}

func FuzzMessagePack(f *testing.F) {
	fuzz(f, MessagePack, []byte{0x82, 0xa1, 'a', 0xc3, 0xa1, 'b', 0x92, 0, 1}, []byte{0x81, 5, 0xa1, 'x'}, []byte{0xa2, 'o', 'n'}, []byte{0xc7, 3, 5, 1, 2, 3})
}

func FuzzSenML(f *testing.F) {
	fuzz(f, SenML, []byte(`[{"bn":"x:","bt":1.2e9,"n":"a","u":"V","v":1},{"n":"b","vs":"x"}]`), []byte(`[{"n":"a","vb":true}]`), []byte(`[]`), []byte(`[{"bn":"x:","n":"a","t":-1,"v":1},{"n":"a","v":2},{"n":"b","vs":"x"}]`))
}

func FuzzSenMLCBOR(f *testing.F) {
	fuzz(f, SenMLCBOR, []byte{0x81, 0xa2, 0, 0x61, 'a', 2, 1}, []byte{0x81, 0xa2, 0x21, 0x61, 'a', 2, 1}, []byte{0x82, 0xa2, 0, 0x61, 'a', 2, 1, 0xa2, 0, 0x61, 'a', 2, 2})
}

func FuzzText(f *testing.F) {
	fuzz(f, Text, []byte("on"), []byte("23.5"), []byte(`{"a":1}`), []byte("{"), []byte("\xff"))
}

func FuzzJSON(f *testing.F) {
	fuzz(f, JSON, []byte(`{"a":1,"b":{"c":[1]}}`), []byte(`[1,2]`), []byte(`{`), []byte(" 4 "))
}

func BenchmarkFind(b *testing.B) {
	fields := map[string]any{"device": "press-17", "temperature": 71.25, "unit": "C", "humidity": 43.1, "seq": 184467, "ts": int64(1717243200123), "status": "ok", "v": 3}
	inCBOR, _ := cbor.Marshal(fields)
	inMessagePack, _ := msgp.AppendIntf(nil, fields)
	inJSON, _ := json.Marshal(fields)
	for _, x := range []struct {
		codec   Codec
		payload []byte
	}{{JSON, inJSON}, {CBOR, inCBOR}, {MessagePack, inMessagePack}, {Text, []byte("71.25")},
		{SenML, []byte(`[{"bn":"press-17:","n":"temperature","u":"Cel","v":71.25},{"n":"humidity","u":"%RH","v":43.1}]`)}} {
		b.Run(x.codec.String(), func(b *testing.B) {
			var t Tree
			for _, name := range []string{"temperature", "unit"} {
				t.Add(&Slot{Path: []string{name}})
			}
			b.ReportAllocs()
			pass := uint64(0)
			for b.Loop() {
				pass++
				if err := x.codec.Find(x.payload, &t, pass); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
