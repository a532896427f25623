package gateway

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"holdfast/gateway/config"
)

// Document is a configuration, or a part of one with the keys around it, or a
// file with tests of rules.
type Document struct {
	Name string // in messages
	Text string
}

// Samples are configurations of one destination or device each, with the keys
// that its kind or driver shows as its sample.
func (p Parts) Samples() []Document {
	var all []Document
	add := func(section, key, name, sample string) {
		text := section + ":\n  sample:\n    " + key + ": " + name + "\n"
		for line := range strings.Lines(sample) {
			text += "    " + line
		}
		all = append(all, Document{Name: "the sample of " + name, Text: text})
	}
	for _, kind := range p.Sinks {
		add("destinations", "type", kind.Name, kind.Sample)
	}
	for _, d := range p.Drivers {
		add("devices", "driver", d.Name, d.Sample)
	}
	return all
}

// Describe returns what a configuration may be: every key, its type and its
// limits, as the code that reads them knows it. What a section can hold that
// no document shows remains unknown. The mistakes are those of the documents,
// files that they name and that do not exist included.
func Describe(parts Parts, docs []Document) (*config.Shape, config.Errors) {
	return Trace(docs, func(root *config.Section) error {
		l := &loader{parts: parts, c: &Config{}}
		return l.read(root)
	})
}

// Trace returns what documents of some kind may be, as read reads them, and the
// mistakes that it finds.
func Trace(docs []Document, read func(root *config.Section) error) (*config.Shape, config.Errors) {
	var all *config.Shape
	var mistakes config.Errors
	for _, doc := range docs {
		// Nothing exists in such a directory, so no rule files are read.
		root, err := config.LoadBytes(cmp.Or(doc.Name, "document")+":/", []byte(doc.Text))
		mistakes.Add(err)
		if root == nil {
			continue
		}
		trace := root.Trace()
		var errs config.Errors
		if errors.As(read(root), &errs) {
			mistakes = append(mistakes, errs...)
		}
		all = config.Join(all, trace.Shape())
	}
	return all, slices.Clone(mistakes)
}
