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
// Paragraphs of a comment that are indented are tables with the keys below the
// next one, or examples. A mapping shows further keys beside the next one, and
// the whole comment is theirs; a list shows other values of the next key: itself
// if that key has a list, else each of its items.
//
//	# Limits of every stream.
//	#   max    bytes on disk
//	#   keep   how long delivered events stay
//
// The word default: says what holds without the key where the code cannot say
// it.
package schema
