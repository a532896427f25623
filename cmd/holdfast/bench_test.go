package main

import (
	"bytes"
	"encoding/json"
	"net"
	"strings"
	"sync"
	"testing"

	"holdfast/gateway/bench"
)

// twice is a broker for one publisher and one subscriber, which acknowledges
// everything and sends it to the subscriber twice.
func twice(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var subscriber net.Conn
	var group sync.WaitGroup
	serve := func(c net.Conn) {
		defer c.Close()
		var in []byte
		for buf := make([]byte, 4096); ; {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			in = append(in, buf[:n]...)
			for {
				first, body, rest, ok, err := bench.NextPacket(in)
				if err != nil || !ok {
					break
				}
				mu.Lock()
				switch first >> 4 {
				case 1: // CONNECT
					c.Write([]byte{0x20, 2, 0, 0})
				case 8: // SUBSCRIBE
					subscriber = c
					c.Write([]byte{0x90, 3, body[0], body[1], 1})
				case 12: // PINGREQ
					c.Write([]byte{0xD0, 0})
				case 3: // PUBLISH
					at := 2 + int(body[0])<<8 + int(body[1])
					c.Write([]byte{0x40, 2, body[at], body[at+1]})
					if packet := in[:len(in)-len(rest)]; subscriber != nil {
						subscriber.Write(append(bytes.Clone(packet), packet...))
					}
				}
				mu.Unlock()
				in = rest
			}
		}
	}
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); group.Wait() })
	return l.Addr().String()
}

func TestBenchNamesTheFaultsThatItFoundAndEndsWith5(t *testing.T) {
	addr := twice(t)
	run := func(args ...string) (stdout, stderr string, code int) {
		root := rootCommand()
		var out, errs bytes.Buffer
		root.SetOut(&out)
		root.SetErr(&errs)
		root.SetArgs(append([]string{"bench", "--addr", addr, "--clients", "1", "--window", "10", "--messages", "100", "--warmup", "0s", "--subscribers", "1"}, args...))
		cmd, err := root.ExecuteContextC(t.Context())
		code = report(&errs, cmd.CommandPath(), err)
		return out.String(), errs.String(), code
	}
	out, stderr, code := run()
	for _, want := range []string{
		"whole run           100 sent, 200 received: lost 0  duplicates 100  out of order 0\n",
		addr + " sent subscribers 100 messages again\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("stdout lacks %q:\n%s", want, out)
		}
	}
	if code != exitPartial || !strings.Contains(stderr, "messages were refused, not acknowledged, lost, repeated or out of order") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	out, _, code = run("--output", "json")
	var figures struct {
		Lost, Duplicates, Received int64
		OutOfOrder                 int64 `json:"out_of_order"`
	}
	if err := json.Unmarshal([]byte(out), &figures); err != nil || code != exitPartial || figures.Duplicates != 100 || figures.Received != 200 || figures.Lost+figures.OutOfOrder != 0 {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
}
