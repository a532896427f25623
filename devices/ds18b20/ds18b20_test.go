package ds18b20_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/devices"
	"holdfast/devices/bus"
	"holdfast/devices/devicetest"
	"holdfast/devices/ds18b20"
	"holdfast/devices/sim"
)

const id = "28-0316a2795a1b"

// degree is a temperature that changes while it is measured.
type degree struct{ atomic.Uint64 }

func celsius(v float64) *degree {
	d := new(degree)
	d.become(v)
	return d
}

func (d *degree) become(v float64) { d.Store(math.Float64bits(v)) }

func start(t *testing.T, bits int, c *degree) (*devicetest.Log, *sim.DS18B20, *devices.Set) {
	t.Helper()
	wire := sim.NewOneWire()
	chip := sim.NewDS18B20(bits, func(time.Time) sim.Climate { return sim.Climate{Temperature: math.Float64frombits(c.Load())} })
	wire.Plug(id, chip)
	log, set := devicetest.Start(t, "t: {driver: ds18b20, bus: sim:w, id: "+id+", interval: 1s}", []devices.Driver{ds18b20.Driver},
		bus.Buses{SimulatedOneWire: func(string) devices.OneWire { return wire }})
	return log, chip, set
}

// Data sheet revision 042208, page 4, table 1 (temperature and data).
func TestTheTableOfTheDataSheetComesOut(t *testing.T) {
	for _, c := range []struct {
		raw  uint16
		want float64
	}{
		{0x07d0, 125}, {0x0550, 85}, {0x0191, 25.0625}, {0x00a2, 10.125}, {0x0008, 0.5}, {0, 0},
		{0xfff8, -0.5}, {0xff5e, -10.125}, {0xfe6f, -25.0625}, {0xfc90, -55},
	} {
		pad := [9]byte{byte(c.raw), byte(c.raw >> 8), 0x4b, 0x46, 0x7f, 0xff, 0x0c, 0x10}
		pad[8] = ds18b20.CRC(pad[:8])
		if got, err := ds18b20.Decode(pad); err != nil || got != c.want {
			t.Errorf("%#04x: %v, %v; want %v", c.raw, got, err, c.want)
		}
	}
}

func TestWhatItIsLikeIsWhatIsMeasuredAtEachResolution(t *testing.T) {
	for bits, want := range map[int]string{12: "21.375", 11: "21.375", 10: "21.25", 9: "21"} {
		synctest.Test(t, func(t *testing.T) {
			log, _, _ := start(t, bits, celsius(21.375))
			time.Sleep(900 * time.Millisecond)
			if got := log.Lines("devices/t/temperature"); len(got) != 1 || !strings.Contains(got[0], `"value":`+want+`,`) {
				t.Errorf("%d bits: %s", bits, got)
			}
		})
	}
}

func TestNoReadingIsMadeOfWhatIsNone(t *testing.T) {
	for name, fault := range map[string]func(*[9]byte){
		"a bad checksum":           func(pad *[9]byte) { pad[1] ^= 4 },
		"no supply":                func(pad *[9]byte) { *pad = [9]byte{} },
		"supply fails":             sim.PowerFails,
		"nothing answers any more": func(pad *[9]byte) { *pad = [9]byte{255, 255, 255, 255, 255, 255, 255, 255, 255} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, chip, set := start(t, 12, celsius(20))
				time.Sleep(2500 * time.Millisecond)
				before := len(log.Events("devices/t/temperature"))
				chip.Break(fault)
				time.Sleep(20 * time.Second)
				// The one under way when it broke may still count.
				if got := log.Lines("devices/t/temperature"); len(got) > before+1 || strings.Contains(fmt.Sprint(got), "85") {
					t.Errorf("readings %v", got)
				}
				if s := set.Status()[0]; s.State != devices.Offline {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestEightyFiveDegreesAreAReadingIfItGotWarmThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := celsius(82)
		log, _, _ := start(t, 12, c)
		time.Sleep(1500 * time.Millisecond)
		c.become(85)
		time.Sleep(2 * time.Second)
		if got := fmt.Sprint(log.Lines("devices/t/temperature")); !strings.Contains(got, `"value":85,`) {
			t.Error(got)
		}
	})
}

func TestTheKernelsFileIsRead(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "sys/bus/w1/devices", id)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	text := "50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000\n"
	text = strings.ReplaceAll(text, "50 05 4b 46 7f ff 0c 10 1c", scratchpad(0x0191))
	if err := os.WriteFile(filepath.Join(dir, "w1_slave"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, _ := devicetest.Start(t, "t: {driver: ds18b20, id: "+id+", interval: 1s}", []devices.Driver{ds18b20.Driver}, bus.Buses{Root: root})
	if got := log.Wait(t.Context(), "devices/t/temperature", 1); !strings.Contains(string(got[0].Payload), "25.0625") {
		t.Errorf("%s", got[0].Payload)
	}
}

func scratchpad(raw uint16) string {
	pad := [9]byte{byte(raw), byte(raw >> 8), 0x4b, 0x46, 0x7f, 0xff, 0x0c, 0x10}
	pad[8] = ds18b20.CRC(pad[:8])
	return strings.ToLower(fmt.Sprintf("% x", pad[:]))
}

func TestMistakesAreShownAtTheirPlace(t *testing.T) {
	for yaml, want := range map[string]string{
		"t: {driver: ds18b20}":                                                       `the required key "id" is missing`,
		"t: {driver: ds18b20, id: 10-000000000001}":                                  `1:26: "10-000000000001" is not the id of a DS18B20`,
		"t: {driver: ds18b20, bus: i2c-1, id: " + id + "}":                           `1:27: "i2c-1" is not a 1-Wire bus`,
		"a: {driver: ds18b20, id: " + id + "}\nb: {driver: ds18b20, id: " + id + "}": "2:26: " + id + " is a already",
	} {
		if _, err := devicetest.Load(yaml, []devices.Driver{ds18b20.Driver}, bus.Buses{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", yaml, err)
		}
	}
}
