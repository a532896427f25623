package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Devices is what this package needs of the devices of a gateway, beside
// [Gateway]. Its methods may be called concurrently.
type Devices interface {
	// DeviceStatus returns how each device does, in the order of the
	// configuration.
	DeviceStatus() []DeviceStatus
	// ScanDevices looks for devices at all buses, until ctx ends.
	ScanDevices(ctx context.Context) []DeviceFound
	// WriteDevice gives a command to an output: NAME, or NAME/OUTPUT. It is in
	// the log at return, and what became of it comes as an event.
	WriteDevice(ctx context.Context, output string, command []byte) (Written, error)
}

// ErrNoDevice is wrapped by errors about an output that does not exist.
var ErrNoDevice = errors.New("there is no such output")

// DeviceStatus is how a device does.
type DeviceStatus struct {
	Name     string          `json:"name"`
	Driver   string          `json:"driver"`
	Bus      string          `json:"bus,omitempty"` // or the chip of its lines
	Topic    string          `json:"topic"`
	State    string          `json:"state"` // starting, online, offline
	Since    time.Time       `json:"since,omitzero"`
	LastRead time.Time       `json:"last_read,omitzero"`
	Error    string          `json:"error,omitempty"` // the last one, kept after it is over
	ErrorAt  time.Time       `json:"error_at,omitzero"`
	Readings []DeviceReading `json:"readings"`

	Failures   uint64 `json:"failures"`
	Sampled    uint64 `json:"sampled"`
	Suppressed uint64 `json:"suppressed"`
	OutOfRange uint64 `json:"out_of_range"`
	Captured   uint64 `json:"captured"`
	Missed     uint64 `json:"missed"`
	Overruns   uint64 `json:"overruns"`
	Lost       uint64 `json:"lost_edges"`
}

// DeviceReading is the newest value of a reading.
type DeviceReading struct {
	Name    string    `json:"name"`
	Value   float64   `json:"value"`
	Unit    string    `json:"unit,omitempty"`
	At      time.Time `json:"at"`
	Quality string    `json:"quality,omitempty"`
}

// DeviceFound is something that a scan has found.
type DeviceFound struct {
	Bus     string   `json:"bus"`
	Label   string   `json:"label,omitempty"` // of a chip with lines
	At      string   `json:"at,omitempty"`
	Name    string   `json:"name,omitempty"`
	Device  string   `json:"device,omitempty"`
	Drivers []string `json:"drivers,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// Written says where the report about a command will be: an event of a topic in
// a stream, from an offset on, with the id.
type Written struct {
	ID     string `json:"id"`
	Stream string `json:"stream"`
	From   uint64 `json:"from"`
	Topic  string `json:"topic"`
}

func (s *Server) serveDevices(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, notNil(s.devices.DeviceStatus()))
}

func (s *Server) serveScan(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, notNil(s.devices.ScanDevices(r.Context())))
}

func (s *Server) serveWrite(w http.ResponseWriter, r *http.Request) {
	command, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		writeJSON(w, http.StatusBadRequest, failure{"a command has at most 64 KiB"})
		return
	}
	written, err := s.devices.WriteDevice(r.Context(), r.PathValue("output"), command)
	switch {
	case errors.Is(err, ErrNoDevice):
		writeJSON(w, http.StatusNotFound, failure{err.Error()})
	case err != nil:
		writeJSON(w, http.StatusInternalServerError, failure{err.Error()})
	default:
		writeJSON(w, http.StatusOK, written)
	}
}

// Devices returns how each device does.
func (c *Client) Devices(ctx context.Context) (all []DeviceStatus, err error) {
	return all, c.json(ctx, http.MethodGet, "/v1/devices", nil, &all)
}

// Scan looks for devices at all buses of the gateway's machine.
func (c *Client) Scan(ctx context.Context) (all []DeviceFound, err error) {
	return all, c.json(ctx, http.MethodPost, "/v1/devices/scan", nil, &all)
}

// Write gives a command to an output.
func (c *Client) Write(ctx context.Context, output string, command []byte) (w Written, err error) {
	return w, c.json(ctx, http.MethodPost, "/v1/devices/write/"+(&url.URL{Path: output}).EscapedPath(), command, &w)
}

func (c *Client) json(ctx context.Context, method, path string, body []byte, v any) error {
	resp, err := c.request(ctx, method, path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(v)
}
