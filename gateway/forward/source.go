package forward

import (
	"context"
	"log/slog"
	"time"

	"holdfast/gateway/event"
)

// Source is the other direction of a destination: it takes in what the far
// side sends to the gateway, such as commands from a cloud.
type Source interface {
	// Run takes messages in until ctx ends and then returns nil, after what is
	// under way has been answered. It keeps the connection up itself; a fault
	// of the far side is logged, shown in Status and tried again. A message is
	// acknowledged to the far side only after its event is on disk. A Source
	// runs once.
	Run(ctx context.Context, in Intake) error
	// Status returns a snapshot. It is safe for concurrent use.
	Status() SourceStatus
}

// Intake is what a [Source] is given to put its events into the log.
type Intake struct {
	Gateway string // the gateway's name
	Emit    event.Emit
	Logger  *slog.Logger // nil means slog.Default
}

// SourceStatus is what a source has done since it was made and what it is
// doing now.
type SourceStatus struct {
	Connected bool
	Since     time.Time // of the connection, or of the first failure; zero before the first attempt
	Err       string    // why there is no connection; empty while there is one

	Received uint64 // events that are on disk
	Repeated uint64 // messages that came again and were known to be on disk already
	Dropped  uint64 // messages acknowledged without becoming an event; the log says why
}

// Selector is a [Sink] that does not want every event, such as one that must
// not send back what came from its own far side. The forwarder books events
// that it does not want as filtered.
type Selector interface {
	// Wants reports whether e, an event of b, is to be sent. The answer for
	// an event never changes. Unlike Send it may be called concurrently; it
	// must not block.
	Wants(b *Batch, e *event.Event) bool
}
