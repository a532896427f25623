package gateway

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
)

func TestAGatewayIsAliveWhileItsCommitterAnswers(t *testing.T) {
	sink := newMemory()
	var stuck atomic.Bool
	entered, release := make(chan struct{}, 1), make(chan struct{})
	sink.commit = func() error {
		if stuck.Load() {
			select {
			case entered <- struct{}{}:
			default:
			}
			<-release
		}
		return nil
	}
	g, stop := run(t, t.TempDir(), oneCloud, sink)
	defer stop()
	if st, err := g.Alive(t.Context()); err != nil || len(st.MQTT.Listen) != 1 {
		t.Fatalf("a gateway that is well: %v, %v", st.MQTT.Listen, err)
	}
	stuck.Store(true)
	ctx, giveUp := context.WithCancel(t.Context())
	go func() {
		<-entered
		giveUp()
	}()
	if _, err := g.Alive(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("while the disk does not answer: got %v", err)
	}
	stuck.Store(false)
	close(release)
	if _, err := g.Alive(t.Context()); err != nil {
		t.Errorf("when it answers again: got %v", err)
	}
}
