// Package codec finds fields in payloads: in JSON, CBOR (RFC 8949),
// MessagePack, SenML (RFC 8428) as JSON and as CBOR, and in plain text.
//
// Whoever wants fields makes a [Slot] for each and a [Tree] of the slots; a
// [Codec] then finds all of them in one pass over a payload, and decodes
// nothing else. What it finds may be a part of the payload's memory, so that it
// is valid only as long as that is.
//
// A payload that is no object has no fields; as a whole it goes to the slots
// that are Bare. null counts as absent. Of equal names in an object the first
// one counts. Names are compared byte by byte, and elements of lists have their
// index as name.
//
// SenML: the fields of a pack are its records, with the name n and without the
// base name. Beside them, bn is the base name, t the time of the newest record in
// seconds (relative times and none count from when the pack came in), and
// units.NAME the unit of a record. If all records have one name, the value goes to
// bare slots as well. A pack in which a name comes more than once is a [Series]
// of readings: the records of one base name and time make a reading, and rules
// evaluate each like an event of its own, in order of time.
//
// Text: the whole payload goes to bare slots, as [Plain], unless it is a JSON
// object or list.
//
// Limits: objects and lists inside each other to [MaxDepth]. A payload that is
// not well-formed as a whole is an error, whichever fields are wanted. Nothing
// here panics, whatever the payload.
package codec
