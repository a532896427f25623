package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type shapeRoot struct {
	Name  string     `config:"name,required"`
	Wait  Duration   `config:"wait,min=1s,max=1m"`
	Parts Named      `config:"parts"`
	Item  []*Section `config:"item"`
	Later *Section   `config:"later"`
	Never *Section   `config:"never"`
}

type shapeCommon struct {
	Kind string `config:"kind,required"`
	Max  Size   `config:"max,min=1KiB"`
}

type shapeA struct {
	On bool `config:"on"`
}

type shapeB struct {
	Port uint16   `config:"port,min=1"`
	Tags []string `config:"tags"`
}

// decodeShape decodes as the parts of a gateway do: each its own section.
func decodeShape(root *Section) {
	set := shapeRoot{Wait: Duration(10e9)}
	_ = root.Decode(&set)
	for _, p := range set.Parts {
		common := shapeCommon{Max: 4096}
		keys := Keys(&common)
		_ = p.Only(keys...).Decode(&common)
		if common.Kind == "a" {
			_ = p.Allow(keys...).Decode(&shapeA{})
		} else {
			_ = p.Allow(keys...).Decode(&shapeB{Tags: []string{"x: y", "z"}})
		}
	}
	for _, i := range set.Item {
		if i.Kind() == Mapping {
			_ = i.Decode(&shapeA{})
		} else {
			var s string
			_ = i.Decode(&s)
		}
	}
	if set.Later != nil {
		_ = set.Later.Decode(&shapeB{})
	}
}

func words(s *Shape, path string, out *[]string) {
	if s == nil {
		return
	}
	if s.Alternatives != nil {
		for i, o := range s.Alternatives {
			words(o, fmt.Sprintf("%s|%d", path, i), out)
		}
		return
	}
	line := fmt.Sprintf("%s: %d", path, s.Form)
	for _, word := range []string{s.Min, s.Max, s.Default, s.Case} {
		line += " " + word
	}
	*out = append(*out, strings.TrimRight(line, " "))
	words(s.Items, path+"[]", out)
	for _, f := range s.Fields {
		mark := ""
		if f.Required {
			mark += "!"
		}
		if f.Own {
			mark += "~"
		}
		if !f.Shown {
			mark += "?"
		}
		words(f.Shape, path+"."+f.Key+mark, out)
	}
}

func TestATraceKnowsWhatEachPartDecodes(t *testing.T) {
	root, err := LoadBytes("c.yaml", []byte(`
name: x
parts:
  one: {kind: a, on: true}
  two: {kind: b, max: 1KiB, port: 7}
  three: {kind: b, tags: a}
item: [plain, {on: true}]
later: {port: 1}
`))
	if err != nil {
		t.Fatal(err)
	}
	trace := root.Trace()
	decodeShape(root)
	var got []string
	words(trace.Shape(), "", &got)
	want := []string{
		": 11",
		".name!: 1",
		".wait?: 5 1s 1m 10s",
		".parts: 12",
		".parts[]|0: 11    a",
		".parts[]|0.kind!: 1",
		".parts[]|0.max: 6 1KiB  4KiB",
		".parts[]|0.on~: 2   false",
		".parts[]|1: 11    b",
		".parts[]|1.kind!: 1",
		".parts[]|1.max: 6 1KiB  4KiB",
		".parts[]|1.port~: 3 1 65535",
		".parts[]|1.tags~: 13   ['x: y', z]",
		".parts[]|1.tags~[]: 1",
		".item: 13",
		".item[]|0: 1",
		".item[]|1: 11",
		".item[]|1.on: 2   false",
		".later: 11",
		".later.port: 3 1 65535",
		".later.tags?: 13",
		".later.tags?[]: 1",
		".never?: 0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestWhatIsDecodedDoesNotDependOnATrace(t *testing.T) {
	text := []byte("name: x\nwait: 7s\nparts: {b: {kind: b, tags: a}}\n")
	plain, err := LoadBytes("c.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	traced, err := LoadBytes("c.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	traced.Trace()
	var a, b shapeRoot
	if err1, err2 := plain.Decode(&a), traced.Decode(&b); err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if a.Name != b.Name || a.Wait != b.Wait || len(a.Parts) != len(b.Parts) {
		t.Errorf("got %+v, without a trace %+v", b, a)
	}
}

func TestASectionAsJSON(t *testing.T) {
	for text, want := range map[string]string{
		"{b: 1, a: [true, null, ~]}":              `{"b":1,"a":[true,null,null]}`,
		`["1", '2', 1.50, 1e3, -0]`:               `["1","2",1.50,1e3,-0]`,
		"[.5, +1, 0x1f, .inf, .nan, 1_000, 1.]":   `[0.5,1,"0x1f",".inf",".nan","1_000",1]`,
		"[yes, on, 2026-01-01, a b, \"\\u00e9\"]": `["yes","on","2026-01-01","a b","é"]`,
		"9007199254740993":                        "9007199254740993",
		"${HOME}":                                 `"${HOME}"`,
		"":                                        "null",
		"|\n  a\n  1\n":                           `"a\n1\n"`,
	} {
		s, err := LoadBytes("c.yaml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := string(s.JSON()); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}
