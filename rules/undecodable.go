package rules

import "errors"

// Undecodable reports whether the error of a [Failure] says that the payload
// as a whole could not be decoded, so that no field of it can be read.
func Undecodable(err error) bool { return errors.Is(err, errNotJSON) || errors.Is(err, errDeep) }
