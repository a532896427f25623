//go:build !nosync

package storage

// unsafeNoSync is false: what is acknowledged is on disk. Only a binary built
// with the tag nosync, the control of the power-cut test, can say otherwise.
func unsafeNoSync() bool { return false }
