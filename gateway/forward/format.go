package forward

// Format is how a batch is written for the far side. As a field of settings it
// takes the tag oneof=ndjson|json|cloudevents.
type Format string

// The formats of a batch.
const (
	// NDJSON is one item per line, each line ended.
	NDJSON Format = "ndjson"
	// JSON is one array of items.
	JSON Format = "json"
	// CloudEvents is one array of events as in the JSON batch format of
	// CloudEvents 1.0.
	CloudEvents Format = "cloudevents"
)

// ContentType returns the MIME type of a batch.
func (f Format) ContentType() string {
	switch f {
	case JSON:
		return "application/json"
	case CloudEvents:
		return "application/cloudevents-batch+json"
	}
	return "application/x-ndjson"
}

// AppendBatch appends b in the given format to dst.
func (c *Encoder) AppendBatch(dst []byte, f Format, b *Batch) []byte {
	if f == NDJSON {
		for i := range b.Events {
			dst = append(c.AppendItem(dst, b, &b.Events[i]), '\n')
		}
		return dst
	}
	dst = append(dst, '[')
	for i := range b.Events {
		if i > 0 {
			dst = append(dst, ',', '\n')
		}
		if f == CloudEvents {
			dst = c.AppendCloudEvent(dst, b, &b.Events[i])
		} else {
			dst = c.AppendItem(dst, b, &b.Events[i])
		}
	}
	return append(dst, ']')
}
