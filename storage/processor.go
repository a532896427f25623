package storage

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"holdfast/gateway/event"
)

// processorState is stored in the key "p name".
type processorState struct {
	Covered uint64 `json:"covered"` // outputs of all events below are on disk
	Input   uint64 `json:"input"`   // sequence of the last logged input
}

// Input is something other than an event that moved a processor's state: the
// time of a tick, or what the processor says in Data, which is JSON. It took
// effect behind the events below After.
type Input struct {
	Sequence uint64          `json:"-"`
	After    uint64          `json:"after"`
	Now      event.Time      `json:"now"`
	Data     json.RawMessage `json:"data,omitempty"`
}

// Step is what a processor wants to have written in one transaction: its
// outputs, how far they cover its input, and the input that made it if that
// was no event.
type Step struct {
	Covered uint64
	Input   *Input
	Outputs []Append
}

// Processor is the durable side of a set of rules over one stream.
type Processor struct {
	log   *Log
	name  string
	state processorState
}

// OpenProcessor returns the processor of that name, how far its outputs were
// covered, and the inputs logged since sequence number since.
func (l *Log) OpenProcessor(name string, since uint64) (p *Processor, covered uint64, inputs []Input, err error) {
	p = &Processor{log: l, name: name}
	if _, err = l.getJSON(nameKey(keyProcessor, name), &p.state); err != nil {
		return nil, 0, nil, fmt.Errorf("processor %q: %w", name, err)
	}
	err = l.scan(append(nameKey(keyInput, name), 0), func(k, v []byte) error {
		var in Input
		if err := json.Unmarshal(v, &in); err != nil {
			return err
		}
		in.Sequence = binary.BigEndian.Uint64(k[len(k)-8:])
		if in.Sequence > since {
			inputs = append(inputs, in)
		}
		return nil
	})
	if err != nil {
		return nil, 0, nil, fmt.Errorf("inputs of processor %q: %w", name, err)
	}
	return p, p.state.Covered, inputs, nil
}

// Sequence is the number of the last input that was logged.
func (p *Processor) Sequence() uint64 { return p.state.Input }

// Commit hands a step to the committer without waiting for it; done is called
// when it is on disk or the log has failed. Steps are committed in order.
func (p *Processor) Commit(st Step, done func(error)) error {
	p.state.Covered = st.Covered
	r := &request{done: done}
	if st.Input != nil {
		p.state.Input++
		value, err := json.Marshal(st.Input)
		if err != nil {
			return err
		}
		r.sets = append(r.sets, keyValue{inputKey(p.name, p.state.Input), value})
	}
	value, err := json.Marshal(p.state)
	if err != nil {
		return err
	}
	r.sets = append(r.sets, keyValue{nameKey(keyProcessor, p.name), value})
	for _, a := range st.Outputs {
		r.appends = append(r.appends, appendTo{stream: a.Stream, events: a.Events})
	}
	return p.log.submit(context.Background(), r)
}

// Forget removes logged inputs up to a sequence number: a checkpoint holds
// what they did.
func (p *Processor) Forget(from, to uint64) error {
	if to < from {
		return nil
	}
	r := &request{}
	for n := from; n <= to && len(r.sets) < commitEntries; n++ {
		r.sets = append(r.sets, keyValue{inputKey(p.name, n), nil})
	}
	return p.log.submit(context.Background(), r)
}

// loadHeld reads the QoS 2 packet identifiers that were held when the store
// was closed or lost power.
func (l *Log) loadHeld() error {
	l.held = map[string][]uint16{}
	return l.scan([]byte{keyHeld}, func(k, _ []byte) error {
		if len(k) < 4 {
			return nil
		}
		client, id := string(k[1:len(k)-3]), binary.BigEndian.Uint16(k[len(k)-2:])
		l.held[client] = append(l.held[client], id)
		return nil
	})
}

// Held returns the QoS 2 packet identifiers of a client that were on disk
// when the log was opened.
func (l *Log) Held(client string) []uint16 { return l.held[client] }

// Release forgets QoS 2 packet identifiers; done is called when that is on disk.
func (l *Log) Release(client string, ids []uint16, done func(error)) error {
	r := &request{done: done, hurry: true}
	for _, id := range ids {
		r.sets = append(r.sets, keyValue{heldKey(client, id), nil})
	}
	return l.submit(context.Background(), r)
}
