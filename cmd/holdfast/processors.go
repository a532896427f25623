package main

import (
	"os"
	"runtime"
	"syscall"
	"time"

	"holdfast/gateway"
)

// A sync of a mapped file write-protects its pages on every processor that
// runs a thread of the process. While a lone publisher waits for every single
// acknowledgement, the Go scheduler keeps a second thread looking for work that
// is not there, and each sync interrupts it: one processor then acknowledges
// a quarter sooner than two.
const (
	fitEvery    = 250 * time.Millisecond
	fitBusy     = 0.8             // of one processor: more than one is of use
	fitLone     = 500             // commits a second that make one worthwhile
	fitHoldback = 5 * time.Second // after more than one was of use
)

// fitProcessors runs the process on one processor while all it has to do is to
// acknowledge a lone publisher, and on all of them otherwise, until over is
// closed. GOMAXPROCS wins where it is set.
//
// While there are immediate rules it runs on two at least, even if the machine has
// only one: else an edge that comes while a commit is under way waits until that
// has had its 10 ms, which is how long the Go scheduler lets one goroutine run. With
// two it is the kernel that decides, and who was woken goes first.
func fitProcessors(g *gateway.Gateway, over <-chan struct{}) {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	tick := time.NewTicker(fitEvery)
	defer tick.Stop()
	f := fit{all: runtime.GOMAXPROCS(0)}
	defer runtime.SetDefaultGOMAXPROCS()
	f.step(time.Now(), g.Commits().Direct, processTime())
	was := f.all
	for {
		if n := f.processors(g.Reacts()); n != was {
			if was = n; n == f.all {
				runtime.SetDefaultGOMAXPROCS()
			} else {
				runtime.GOMAXPROCS(n)
			}
		}
		select {
		case now := <-tick.C:
			f.step(now, g.Commits().Direct, processTime())
		case <-over:
			return
		}
	}
}

// fit decides on how many processors to run.
type fit struct {
	all    int // that the process may use
	one    bool
	at     time.Time
	lone   uint64        // commits for a lone publisher
	cpu    time.Duration // processor time used
	barred time.Time     // until when all processors are kept
}

// step takes the counters as they are now.
func (f *fit) step(now time.Time, lone uint64, cpu time.Duration) {
	elapsed := now.Sub(f.at).Seconds()
	rate, load := float64(lone-f.lone)/elapsed, (cpu-f.cpu).Seconds()/elapsed
	first := f.at.IsZero()
	f.at, f.lone, f.cpu = now, lone, cpu
	if first {
		return
	}
	if f.one && load > fitBusy {
		f.barred = now.Add(fitHoldback)
	}
	f.one = rate >= fitLone && load <= fitBusy && now.After(f.barred)
}

// processors returns on how many the process is to run. reacts says whether there
// are immediate rules.
func (f *fit) processors(reacts bool) int {
	switch {
	case reacts:
		return max(f.all, 2)
	case f.one:
		return 1
	}
	return f.all
}

// processTime is the processor time that this process has used.
func processTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
