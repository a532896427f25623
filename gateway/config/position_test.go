package config

import (
	"strings"
	"testing"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// In every text the expression holds WRONG, once; the mistake must be placed
// at that word of the file.
func TestAMistakeInAnExpressionIsPlacedInTheFile(t *testing.T) {
	for name, text := range map[string]string{
		"plain":                   "where: value > WRONG\n",
		"plain with umlauts":      "where: ä == \"ü\" + WRONG\n",
		"plain over lines":        "where:\n  a and\n  b and WRONG\n  and c\n",
		"plain with empty line":   "where: a\n\n\n  b WRONG\n",
		"plain in a list":         "list: [a, b WRONG, c]\n",
		"plain in a list below":   "list:\n  - a\n  - b WRONG # comment\n",
		"plain with trailing tab": "where: a   \t\n  b WRONG\n",
		"single":                  "where: 'it''s ''WRONG'''\n",
		"single over lines":       "where: 'a  \n\n   b ''\n   WRONG'\n",
		"double":                  `where: "a\t\"b\" \x41\u00e4\U0001F600\\ \/ WRONG"` + "\n",
		"double over lines":       "where: \"a\n  b \\\n   c\\\n\n   WRONG\"\n",
		"double in a mapping":     "emit: {value: \"\\\"x\\\" + WRONG\"}\n",
		"literal":                 "where: |\n  a and\n  WRONG\n",
		"literal, stripped":       "where: |-   # comment\n\n\n    a and\n\n      b WRONG and\n    c\n",
		"literal, indicated":      "where: |2-\n     a\n   b WRONG\n",
		"literal, nested":         "rules:\n  - name: x\n    where: |\n      a\n      ä WRONG\nport: 1\n",
		"literal, kept":           "where: |+\n  a WRONG\n\n\nport: 1\n",
		"literal with tabs":       "where: |\n  \ta\n  \tWRONG\n",
		"folded":                  "where: >\n  a and\n  b and\n  WRONG\n",
		"folded, stripped":        "where: >-\n\n  a and\n\n\n  b\n    more\n\n    more\n  c\n  WRONG\n",
		"folded, first line more": "where: >-\n   a\n\n  \n   b WRONG\n",
		"with anchor and tag":     "where: &w !!str \"a WRONG\"\n",
		"windows line ends":       "where: |\r\n  a\r\n  b WRONG\r\n",
		"byte order mark":         "\uFEFFwhere: a WRONG\n",
	} {
		t.Run(name, func(t *testing.T) {
			s, err := LoadBytes("test.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			e := findExpr(t, s.node)
			want := Pos{File: "test.yaml"}
			for i, line := range strings.Split(strings.TrimPrefix(text, "\uFEFF"), "\n") {
				if at := strings.Index(line, "WRONG"); at >= 0 {
					want.Line, want.Col = i+1, utf8.RuneCountInString(line[:at])+1
				}
			}
			got := e.At(strings.Index(e.Text, "WRONG"), 5, "bad")
			if got.Pos != want || got.Width != 5 {
				t.Errorf("got %v width %d, want %v width 5\n%s", got.Pos, got.Width, want, got.Detail())
			}
		})
	}
}

func findExpr(t *testing.T, n *node) Expr {
	for _, scalar := range scalars(n) {
		if strings.Contains(scalar.value, "WRONG") {
			var e Expr
			if err := (&Section{node: scalar}).Decode(&e); err != nil {
				t.Fatal(err)
			}
			return e
		}
	}
	t.Fatal("the text has no expression with WRONG")
	return Expr{}
}

func scalars(n *node) []*node {
	var all []*node
	for _, item := range n.items {
		all = append(all, scalars(item)...)
	}
	for _, e := range n.entries {
		all = append(all, scalars(e.value)...)
	}
	if n.kind == Scalar {
		all = append(all, n)
	}
	return all
}

func TestAMistakeAtTheEndOfAnExpressionIsPlacedBehindIt(t *testing.T) {
	for text, want := range map[string]Pos{
		"where: a +":           {"test.yaml", 1, 11},
		"where: 'a +'":         {"test.yaml", 1, 12},
		"where: |-\n  a +\n":   {"test.yaml", 2, 6},
		"where: >\n  a\n  +\n": {"test.yaml", 3, 4}, // the line break belongs to the value
	} {
		var e Expr
		if err := parseText(t, text).Child("where").Decode(&e); err != nil {
			t.Fatal(err)
		}
		if got := e.At(len(strings.TrimRight(e.Text, "\n")), 1, "bad"); got.Pos != want || got.Width != 1 {
			t.Errorf("%q: got %v width %d, want %v", text, got.Pos, got.Width, want)
		}
		for _, offset := range []int{-1, len(e.Text), len(e.Text) + 9} {
			_ = e.At(offset, 3, "bad") // an offset out of range is no panic
		}
	}
	made := Expr{Text: "abc", Pos: Pos{"x", 3, 4}}
	if got := made.At(2, 1, "bad").Pos; got != (Pos{"x", 3, 6}) {
		t.Errorf("an expression without a file: got %v", got)
	}
}

// However the library writes a text as YAML, each byte of it is found again.
func FuzzPlaces(f *testing.F) {
	for _, text := range []string{"a b", "it's \"so\"", "a\n\n  b\nc\n", "\tä\\n", "\n a\n", "x: #y", "\u2028\u0085\x00"} {
		for style := range 5 {
			f.Add(text, style)
		}
	}
	styles := []yaml.Style{0, yaml.SingleQuotedStyle, yaml.DoubleQuotedStyle, yaml.LiteralStyle, yaml.FoldedStyle}
	f.Fuzz(func(t *testing.T, text string, style int) {
		if !utf8.ValidString(text) || strings.ContainsAny(text, "\r\u0085\u2028\u2029\uFEFF") || style < 0 || style >= len(styles) {
			return // line ends that the file does not have, or no text
		}
		n := yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
			{Kind: yaml.ScalarNode, Value: "where"},
			{Kind: yaml.ScalarNode, Value: text, Tag: "!!str", Style: styles[style]},
			{Kind: yaml.ScalarNode, Value: "next"}, {Kind: yaml.ScalarNode, Value: "x"},
		}}
		b, err := yaml.Dump(&n)
		if err != nil {
			return
		}
		s, err := LoadBytes("test.yaml", b)
		if err != nil {
			return
		}
		got := s.Child("where").node
		places := got.places()
		if len(places) != len(got.value)+1 {
			t.Fatalf("%d places for %d bytes", len(places), len(got.value))
		}
		if strings.TrimSpace(got.value) == "" {
			return // nothing in it that could be a mistake
		}
		if len(got.value) > 1 && places[0] == places[len(places)-1] {
			t.Errorf("the bytes of %q were not found in\n%s", got.value, b)
		}
		for i, p := range places {
			if line := got.file.line(p.line); p.line < 1 || p.col < 1 || p.col > utf8.RuneCountInString(line)+1 {
				t.Fatalf("byte %d of %q placed at %v, outside of\n%s", i, got.value, p, b)
			}
		}
	})
}
