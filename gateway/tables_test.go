package gateway

import (
	"fmt"
	"testing"
)

// A start finds versions that only the older one of two checkpoints needs, for
// the case that the newer one is damaged.
func TestVersionsOfATableStayUntilNoCheckpointNeedsThem(t *testing.T) {
	dir := t.TempDir()
	content := func(n int) (*tableContent, string) {
		c := &tableContent{Name: "limits", File: "limits.csv", Key: "d", Content: fmt.Appendf(nil, "d,limit\na,%d\n", n)}
		table, err := c.table()
		if err != nil {
			t.Fatal(err)
		}
		return c, table.Version
	}
	var versions []string
	there := func(v *tableVersions) (all string) {
		for n, version := range versions {
			if _, err := v.load(version); err == nil {
				all += fmt.Sprint(n, " ")
			}
		}
		return all
	}
	v, err := openTableVersions(dir)
	if err != nil {
		t.Fatal(err)
	}
	begin := func(n int) {
		t.Helper()
		c, version := content(n)
		versions = append(versions, version)
		if err := v.store(c, version); err != nil {
			t.Fatal(err)
		}
	}
	checkpoint := func() { v.forget(map[string]string{"limits": versions[len(versions)-1]}) }
	for n := range 3 { // 0 in force at the checkpoint, 1 and 2 behind it
		begin(n)
		if n == 0 {
			checkpoint()
		}
	}
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() { v, err = openTableVersions(dir) }, "0 1 2 "}, // kill -9
		{func() { begin(3) }, "0 1 2 3 "},
		{checkpoint, "0 1 2 3 "}, // the checkpoint before needs 0, and what came after it
		{checkpoint, "3 "},
	} {
		if step.do(); err != nil {
			t.Fatal(err)
		}
		if got := there(&v); got != step.want {
			t.Errorf("got %s, want %s", got, step.want)
		}
	}
}
