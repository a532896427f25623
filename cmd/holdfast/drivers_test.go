package main

import (
	"os"
	"path/filepath"
	"testing"

	"holdfast/devices"
	"holdfast/gateway"
)

func TestTheManualOfEveryDriverPassesCheck(t *testing.T) {
	for _, d := range parts().Drivers {
		t.Run(d.Name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "manual.yaml")
			if err := os.WriteFile(path, []byte(devices.Manual(d)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := gateway.Load([]string{path}, parts()); err != nil {
				t.Errorf("%v\n%s", err, devices.Manual(d))
			}
		})
	}
}
