package rules

import "holdfast/gateway/config"

// Sections lists the rules of a file, which holds a list of rules, a mapping
// with that list as rules, or one rule.
func Sections(file *config.Section) []*config.Section {
	if list := file.Child("rules"); list != nil && len(file.Keys()) == 1 {
		file = list
	}
	switch file.Kind() {
	case config.Null:
		return nil
	case config.List:
		return file.Items()
	}
	return []*config.Section{file}
}
