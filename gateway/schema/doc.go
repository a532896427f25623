// Package schema says what a configuration may be: as a JSON Schema for
// editors, and key by key for people.
//
// What a key takes comes from the code that reads it ([gateway.Describe]),
// what it means from the comments of a reference that shows every key. A
// comment belongs to a key if it stands behind its value, or above it in the
// same column:
//
//	# Default: the host name.
//	gateway: pump-house
//	grace: 2s         # wait for late events;
//	                  # default: 0s
//
// Paragraphs of a comment that are indented are tables with the keys below
// the next one, or examples: of another value of the next key if they are a
// list, of further keys beside it if they are a mapping, and then the whole
// comment is theirs.
//
//	# Limits of every stream.
//	#   max    bytes on disk
//	#   keep   how long delivered events stay
//
// The word default: says what holds without the key where the code cannot say
// it.
package schema
