// Package ingest takes events over HTTP. An answer of 200 means that they are
// on disk: all of a request, or with any other answer none that counts.
//
// One event is the body of a request, whatever it is; its topic is the rest of
// the path:
//
//	curl -H 'Authorization: Bearer change-me' -d '{"value": 21.5}' \
//	     http://127.0.0.1:8481/v1/events/plant/1/temperature
//
// Several are lines of JSON with the content type application/x-ndjson. A line
// without a topic takes that of the path; a path without one is /v1/events.
//
//	{"topic": "plant/1/temperature", "data": 21.5}
//	{"topic": "plant/1/picture", "data_base64": "/9j/4AAQSkZJRg==", "qos": 0}
//	{"topic": "plant/1/state", "time": "2025-03-01T12:00:00.5Z", "key": "plant-1", "data": {"door": "open"}}
//
//	topic        MQTT topic name, without wildcards
//	time         when it happened: RFC 3339, or milliseconds since 1970
//	key          ordering key; default: the topic
//	qos          0, 1 or 2, for MQTT subscribers; default: 1
//	data         the payload: any JSON, kept as it was written
//	data_base64  or the payload in base64
//
// The keys id, stream, offset, source, received and replay are passed over, so
// that the http destination of one gateway, with format ndjson, can send to
// another. Any other key is a mistake.
//
// The body may be compressed with Content-Encoding: gzip. A valid traceparent
// header is kept with every event of the request.
//
// What the answers mean, and what to do:
//
//	200  {"accepted": 3}: on disk
//	400  a mistake in the request, in a batch with its line; sending it again does not help
//	401  no token, or one that is not known
//	403  a request by a web page, or through a name that is not of this machine, without a token
//	408  the request took too long to arrive
//	413  too large, or too many events: send fewer at once
//	415  a Content-Encoding other than gzip
//	429  events come faster than they can be stored: again after Retry-After
//	503  the gateway is stopping, has too many connections or cannot store: again after Retry-After
//	507  the disk is full: again after Retry-After
//
// All but 200 carry a problem document (RFC 9457). An answer that never comes
// says nothing: the events may be on disk or not, so send them again.
//
// A request costs memory until it is answered; the sum is bounded, beyond it
// the answer is 429.
package ingest
