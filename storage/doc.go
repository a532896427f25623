// Package storage is the log: named streams of events on Badger, written by
// one committer, read through any number of cursors.
//
// # What is promised
//
// When the done of [Log.Append] is called with nil, the events are on disk:
// they survive kill -9 and a power cut. Everything in one request is there
// after a crash, or nothing of it. Offsets of a stream begin at 1, have no
// holes but those that a repair reports, and are never used twice. The order
// of a stream is the order in which Append was called.
//
// A [Cursor] reads ahead and moves only by booking, in order, what became of
// the events it passes, so that its [Ledger] accounts for every event at any
// time; dead letters are written in one transaction with their booking. A
// [Replay] is a cursor with an end and a ledger of its own, which holds up no
// retention.
//
// A full stream drops its oldest events, or refuses sources, or makes them
// wait: see [Policy]. Dead letters can go back to pending, see letters.go.
//
// The store always opens. A store that Badger cannot open is set aside in a
// folder of its own and a new one goes on behind its offsets, with a new
// epoch; blocks that cannot be read are passed over and counted. Nothing is
// deleted but what retention was told to delete.
//
// After a write or a sync has failed the log stops for good with [ErrFailed]:
// what the kernel still holds of it is not known until the store has been
// closed and opened again.
//
// # How it works
//
//	Append ─► queue ─► committer ─► one transaction, one sync ─► done
//	                      │
//	                      ├─► tail in memory ─► sequenced readers (rules)
//	                      └─► after the sync ─► durable readers (forwarders, subscribers)
//
// The committer takes all that waits: events of sources, outputs of rules
// with the offset that they cover, dead letters, packet identifiers of QoS 2,
// and tables of keyed state such as MQTT sessions ([Log.Put]).
// Events are packed into blocks of at most 64 KiB (see block.go; the records
// in them: record.go), with a small index beside each (index.go). keys.go
// lists every key. Cursors ride along with other commits and are at most a
// second late. At low rates the committer lingers, so that flash is not
// written for every event; [AppendOptions].Hurry says that somebody waits.
//
// admission.go says how sources meet a full stream. recount.go reads a stream
// again and compares it with what is counted.
//
// Many who have fallen behind read through a [Scanner] each, which share a
// cache of decoded blocks. They pin nothing: retention passes them.
//
// Segments are the unit of retention; reclaim.go says in which order one goes
// so that the disk gets its space back. space.go keeps away from a full disk,
// which a memory map meets as SIGBUS.
//
// # System assumptions
//
// fsync and msync mean it: a disk that acknowledges a flush and loses it
// breaks the promise. A rename within a directory is atomic. One process has
// the store open at a time; Badger's lock file sees to it.
package storage
