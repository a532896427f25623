package conformance

// awaiting are promises that are not kept yet, by their keys, with the work that
// will keep them. One that is kept does not belong here: the test then fails.
var awaiting = map[string]string{}
