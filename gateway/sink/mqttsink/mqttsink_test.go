package mqttsink_test

import (
	"testing"

	"holdfast/gateway/forward/sinktest"
)

func TestSink(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Target {
		f := newFar(t)
		s := open(t, "url: "+f.url()+"\npayload: item\nmax_inflight: 8")
		return sinktest.Target{Sink: s, Received: f.Received, Fail: f.Fail, Hang: f.Hang}
	})
}
