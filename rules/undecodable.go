package rules

import "errors"

// payloadError says that the payload as a whole could not be decoded.
type payloadError struct{ error }

func (e *payloadError) Unwrap() error { return e.error }

// Undecodable reports whether the error of a [Failure] says that the payload
// as a whole could not be decoded, so that no field of it can be read.
func Undecodable(err error) bool {
	var whole *payloadError
	return errors.As(err, &whole)
}
