package sinktest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"time"
)

// Item is one event as the far side reads it with the ordinary JSON decoder.
type Item struct {
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
	DataBase64 *[]byte         `json:"data_base64"`
}

// Payload returns the payload from whichever member has it.
func (i *Item) Payload() []byte {
	if i.DataBase64 != nil {
		return *i.DataBase64
	}
	return i.Data
}

// ParseItem reads one item and refuses members that the format does not have.
func ParseItem(text []byte) (Item, error) {
	var i Item
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&i); err != nil {
		return i, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return i, errors.New("more than one item")
	}
	if (i.Data == nil) == (i.DataBase64 == nil) {
		return i, errors.New("an item has data or data_base64")
	}
	return i, nil
}

// ParseLines reads NDJSON in which every line is whole.
func ParseLines(text []byte) ([]Item, error) {
	var items []Item
	for len(text) > 0 {
		line, rest, ended := bytes.Cut(text, []byte{'\n'})
		if !ended {
			return items, errors.New("the last line is not ended")
		}
		i, err := ParseItem(line)
		if err != nil {
			return items, err
		}
		items = append(items, i)
		text = rest
	}
	return items, nil
}
