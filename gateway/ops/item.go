package ops

import (
	"encoding/json"
	"fmt"
	"time"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
)

// Item is an event as one line of JSON, without its end, just as destinations
// send it (see [forward.Encoder.AppendItem]).
type Item []byte

// NewItem returns e, an event of the given stream, as an item.
func NewItem(gateway, stream string, e *event.Event) Item {
	var enc forward.Encoder
	return enc.AppendItem(nil, &forward.Batch{Gateway: gateway, Stream: stream}, e)
}

// Fields are what an item says.
type Fields struct {
	ID         string          `json:"id"`
	Stream     string          `json:"stream"`
	Offset     uint64          `json:"offset"`
	Topic      string          `json:"topic"`
	Source     string          `json:"source"`
	Key        string          `json:"key"`
	Time       time.Time       `json:"time"`
	Received   time.Time       `json:"received"`
	Replay     bool            `json:"replay"`
	Data       json.RawMessage `json:"data"`
	DataBase64 []byte          `json:"data_base64"`
}

// Fields returns what the item says.
func (it Item) Fields() (f Fields, err error) {
	if err := json.Unmarshal(it, &f); err != nil {
		return f, fmt.Errorf("read item: %w", err)
	}
	return f, nil
}

// Payload returns the payload of the event; line breaks between the tokens of
// a JSON payload have been lost on the way.
func (f *Fields) Payload() []byte {
	if f.Data != nil {
		return f.Data
	}
	return f.DataBase64
}
