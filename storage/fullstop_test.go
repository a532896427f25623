package storage

import (
	"errors"
	"testing"
	"time"
)

func TestAStopDoesNotWaitForRoomOnAFullDisk(t *testing.T) {
	// No disk has room for so large a reserve: even what the gateway itself
	// writes has to wait.
	l := open(t, t.TempDir(), func(o *Options) { o.Reserve = 1 << 60 })
	result := make(chan error, 1)
	if err := l.Put("table", []Entry{{Key: "key", Value: []byte("value")}}, true, func(err error) { result <- err }); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(t.Context()); !errors.Is(err, ErrFull) {
		t.Errorf("a flush that cannot be ended with %v", err)
	}
	closed := make(chan error, 1)
	go func() { closed <- l.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the stop does not end")
	}
	if err := <-result; !errors.Is(err, ErrFull) {
		t.Errorf("the write that had no room ended with %v", err)
	}
}
