package gpio

import "sync"

// queueSize is how many edges wait for a reader; beyond it the oldest are lost.
const queueSize = 1 << 16

// Queue keeps edges for a reader. Its Push is what Inputs take.
type Queue struct {
	mu    sync.Mutex
	edges []Edge
	last  uint32
	wake  chan struct{}
}

// NewQueue returns an empty queue.
func NewQueue() *Queue { return &Queue{wake: make(chan struct{}, 1)} }

// Push adds an edge; it never blocks.
func (q *Queue) Push(e Edge) {
	q.mu.Lock()
	if len(q.edges) >= queueSize {
		q.edges = q.edges[1:] // the gap in the numbers tells
	}
	q.edges = append(q.edges, e)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Wake is ready to receive from when there may be edges.
func (q *Queue) Wake() <-chan struct{} { return q.wake }

// Take returns the edges since the last call, and how many were lost before
// the first or between them.
func (q *Queue) Take() (edges []Edge, lost uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	edges, q.edges = q.edges, nil
	for _, e := range edges {
		lost += Gap(q.last, e.Number)
		q.last = e.Number
	}
	return edges, lost
}
