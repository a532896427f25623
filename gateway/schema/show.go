package schema

import (
	"fmt"
	"strings"

	"holdfast/gateway/config"
)

// String returns the key for people: its path and type, its text, default and
// example.
func (k Key) String() string {
	var b strings.Builder
	b.WriteString(k.Title() + "\n")
	if text := k.Text.Text; text != "" {
		b.WriteString("\n" + indent(wrapText(sentence(text), 74), "  ") + "\n")
	}
	value := k.Default
	if value == "" {
		value = k.Shape.Default
	}
	if value != "" || k.Example != "" {
		b.WriteString("\n")
	}
	if value != "" && !k.Required {
		b.WriteString(indent(wrapText("default: "+value, 74), "  ") + "\n")
	}
	if k.Example != "" {
		if strings.Contains(k.Example, "\n") {
			fmt.Fprintf(&b, "  example:\n%s\n", indent(k.Example, "    "))
		} else {
			fmt.Fprintf(&b, "  example: %s\n", k.Example)
		}
	}
	return b.String()
}

// Title returns the path of the key and what it takes.
func (k Key) Title() string {
	title := k.Path
	for _, c := range k.Cases {
		title += " (" + c + ")"
	}
	title += ": " + kindOf(k.Shape)
	if k.Required {
		title += ", required"
	}
	return title
}

// kindOf words what a value may be.
func kindOf(s *config.Shape) string {
	if s.Alternatives != nil && s.Alternatives[0].CaseKey == "" {
		var all []string
		for _, o := range s.Alternatives {
			all = append(all, kindOf(o))
		}
		return strings.Join(all, ", or ")
	}
	if s.OneOf != nil {
		return "one of " + strings.Join(s.OneOf, ", ")
	}
	name := map[config.Form]string{
		config.TextForm: "text", config.TruthForm: "true or false", config.IntegerForm: "a whole number", config.NumberForm: "a number",
		config.DurationForm: "a duration", config.SizeForm: "a size", config.PathForm: "a path", config.SecretForm: "a secret",
		config.ExprForm: "an expression", config.WordForm: "text", config.MappingForm: "a mapping", config.NamedForm: "a mapping by name",
	}[s.Form]
	switch {
	case s.Form == config.ListForm && s.Single && s.Items != nil:
		name = "a list, or one item: " + kindOf(s.Items)
	case s.Form == config.ListForm && s.Items != nil:
		name = "a list: " + kindOf(s.Items)
	case s.Form == config.ListForm:
		name = "a list"
	case s.Alternatives != nil || name == "":
		name = "a mapping"
	}
	if limits := bounds(s); limits != "" {
		name += ", " + limits
	}
	return name
}

func indent(text, by string) string {
	return by + strings.ReplaceAll(text, "\n", "\n"+by)
}

// wrapText breaks a text between words into lines of at most width.
func wrapText(text string, width int) string {
	var b strings.Builder
	at := 0
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteString("\n")
			at = 0
		default:
			b.WriteString(" ")
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}
