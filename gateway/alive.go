package gateway

import (
	"context"
	"errors"
	"fmt"

	"holdfast/gateway/ops"
	"holdfast/storage"
)

// Alive returns the status once the committer has had its turn and everything
// that Status asks, the broker among it, has answered. It is for those who end
// a gateway that does not answer: a full disk, or a destination that is away,
// does not make it fail. The error is that of ctx while the committer is stuck,
// and one that says so if the store has failed or is closed. A broker that is
// stuck keeps Alive, whatever ctx says.
func (g *Gateway) Alive(ctx context.Context) (ops.Status, error) {
	if err := g.log.Flush(ctx); err != nil && !errors.Is(err, storage.ErrFull) {
		return ops.Status{}, fmt.Errorf("the store does not answer: %w", err)
	}
	st := g.Status()
	if st.State == ops.Failed {
		return st, fmt.Errorf("the gateway has failed: %s", st.Reasons[0])
	}
	return st, nil
}
