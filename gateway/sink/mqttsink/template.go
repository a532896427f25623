package mqttsink

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/gateway/config"
)

// template is a text with placeholders in braces, such as "site/{gateway}/{topic}".
type template struct {
	text  string // the only part, if there is no placeholder
	parts []part
}

type part struct {
	text string // literal
	name int    // index of the placeholder among the names, -1 for a literal
}

// parseTemplate reads a template in which the given names may stand.
func parseTemplate(text string, names ...string) (template, error) {
	t := template{text: text}
	for rest := text; rest != ""; {
		literal, after, open := strings.Cut(rest, "{")
		if i := strings.IndexByte(literal, '}'); i >= 0 {
			return t, fmt.Errorf("%q has a } without a {", text)
		}
		if literal != "" {
			t.parts = append(t.parts, part{literal, -1})
		}
		if !open {
			break
		}
		name, behind, closed := strings.Cut(after, "}")
		at := slices.Index(names, name)
		switch {
		case !closed:
			return t, fmt.Errorf("%q has a { without a }", text)
		case at < 0:
			return t, fmt.Errorf("%q: {%s} is not known%s", text, name, hint(name, names))
		}
		t.parts = append(t.parts, part{"", at})
		rest = behind
	}
	return t, nil
}

func hint(word string, known []string) string {
	if near := config.Nearest(word, known); near != "" {
		return fmt.Sprintf(", did you mean {%s}?", near)
	}
	return fmt.Sprintf("; known are {%s}", strings.Join(known, "}, {"))
}

// render fills in the values of the names, in their order.
func (t *template) render(values ...string) string {
	switch {
	case len(t.parts) == 0:
		return t.text
	case len(t.parts) == 1 && t.parts[0].name >= 0:
		return values[t.parts[0].name]
	}
	var b strings.Builder
	for _, p := range t.parts {
		if p.name >= 0 {
			b.WriteString(values[p.name])
		} else {
			b.WriteString(p.text)
		}
	}
	return b.String()
}

// begins reports whether the template begins with the placeholder of the
// given index.
func (t *template) begins(name int) bool { return len(t.parts) > 0 && t.parts[0].name == name }
