package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"holdfast/gateway/ops"
)

// verifyLedger has the gateway recount its ledger and prints what it found.
func verifyLedger(ctx context.Context, client *ops.Client, out, progress io.Writer, output outputFlag) error {
	shown := time.Now()
	v, err := client.Verify(ctx, 100*time.Millisecond, func(v ops.Verification) {
		if v.Running() && isTerminal(progress) && time.Since(shown) > time.Second {
			shown = time.Now()
			fmt.Fprintf(progress, "%d %% of %s recounted\n", v.Done*100/max(v.Total, 1), count(v.Total))
		}
	})
	if err != nil {
		return err
	}
	if output == outputJSON {
		err = writeJSON(out, v)
	} else {
		err = writeVerification(out, v)
	}
	if n := v.Differences(); err == nil && n > 0 {
		err = &exitError{exitPartial, fmt.Errorf("the log and the ledger differ in %s", plural(n, "place"))}
	}
	return err
}

func writeVerification(w io.Writer, v ops.Verification) error {
	var b view
	t := b.table("STREAM", "OFFSETS", "READ BACK", "DAMAGED", "REMOVED MEANWHILE")
	for _, s := range v.Streams {
		t.row(s.Name, offsets(ops.StreamStatus{First: s.First, Next: s.Next}), count(s.Events), count(s.Damaged), count(s.Removed))
	}
	t.flush()
	for _, s := range v.Streams {
		for _, d := range s.Differences {
			fmt.Fprintf(&b, "  ! %s: %s\n", s.Name, d)
		}
	}
	if v.Differences() == 0 {
		fmt.Fprintf(&b, "recounted in %s: the ledger is what the log says\n", short(v.Finished.Sub(v.Started)))
	}
	_, err := w.Write(b.Bytes()[1:])
	return err
}
