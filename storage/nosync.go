//go:build nosync

package storage

import "os"

// unsafeNoSync makes the power-cut test fail on purpose, to show that it can.
func unsafeNoSync() bool { return os.Getenv("HOLDFAST_UNSAFE_NO_SYNC") == "1" }
