// Package configs holds the reference of all settings. Its comments are the
// one place where settings are explained: `holdfast schema` takes the texts of
// keys from there.
package configs

import _ "embed"

// Reference is reference.yaml: every key with its default or an example.
//
//go:embed reference.yaml
var Reference string
