// Package configs holds the references of all settings, and of tests of rules.
// Their comments are the one place where settings are explained: `holdfast schema` takes the texts of
// keys from there.
package configs

import _ "embed"

// Reference is reference.yaml: every key with its default or an example.
//
//go:embed reference.yaml
var Reference string

// Tests is reference_test.yaml: every key of a file with tests of rules.
//
//go:embed reference_test.yaml
var Tests string
