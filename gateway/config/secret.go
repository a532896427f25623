package config

import (
	"fmt"
	"log/slog"
)

// Secret is a password or token. It is written literally, as ${NAME} for an
// environment variable or as ${file:PATH} for the content of a file, without
// the line break at its end. Only [Secret.Reveal] gives it away: printing,
// logging and encoding show a placeholder.
type Secret struct {
	// A pointer, since fmt cannot call the methods of a Secret in a field that
	// is not exported: it then shows an address.
	value *string
}

// NewSecret returns a secret with the given value.
func NewSecret(value string) Secret { return Secret{&value} }

// Reveal returns the value.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

// String returns a placeholder; "" if there is no secret.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return "(secret)"
}

// Format prints the placeholder for every verb, so that none shows the field.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText encodes the placeholder, in JSON too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON encodes the placeholder.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// MarshalYAML encodes the placeholder.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// LogValue logs the placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
