package rules

import (
	"fmt"
	"slices"

	"holdfast/gateway/config"
)

// typedRule is a rule with what its expressions say about the fields of events.
type typedRule struct {
	spec   *spec
	fields []*field
	heard  []*field
	latest []*listener
}

// use is one rule's use of a field as a kind.
type use struct {
	source  string
	filters []string
	kind    kind
	at      config.Pos
	where   *config.Error // the place, for the message
}

// checkKinds finds fields that two rules take for different kinds although both
// see the same events: one of them would fail on every event. float(x) and
// string(x) accept either kind.
func checkKinds(rules []typedRule) config.Errors {
	var errs config.Errors
	uses := map[string][]use{}
	for _, r := range rules {
		src := &r.spec.source
		reported := map[string]bool{}
		for i, f := range append(slices.Clone(r.fields), r.heard...) {
			root := f.find()
			if root.kind == anything || root.place == nil {
				continue
			}
			u := use{source: src.stream + "\x00" + src.rule, filters: src.filters(), kind: root.kind, at: root.first, where: root.place}
			if i >= len(r.fields) {
				u.source, u.filters = src.stream+"\x00", []string{r.latest[i-len(r.fields)].filter}
				if src.rule != "" {
					continue
				}
			}
			name := pathName(f.path)
			for _, other := range uses[name] {
				if other.kind != u.kind && other.source == u.source && !reported[name] && anyOverlap(other.filters, u.filters) {
					reported[name] = true
					wrong := *u.where
					wrong.Msg = fmt.Sprintf("%q is used as %s here and as %s at %v, by a rule that gets the same events; float(x) and string(x) accept both",
						name, u.kind.article(), other.kind.article(), other.at)
					errs = append(errs, &wrong)
				}
			}
			uses[name] = append(uses[name], u)
		}
	}
	return errs
}
