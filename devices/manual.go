package devices

import "strings"

// Manual returns a configuration with one device of a driver: its settings as
// in the driver's sample, and those of every device. It passes check.
func Manual(d Driver) string {
	var b strings.Builder
	b.WriteString("# " + d.Doc + "\ndevices:\n  " + d.Name + "-1:\n    driver: " + d.Name + "\n")
	for line := range strings.Lines(d.Sample) {
		b.WriteString("    " + line)
	}
	b.WriteString(common)
	return b.String()
}

// common are the settings of every device, with their defaults.
const common = `    # Of every device:
    #   topic: devices/NAME  what its topics begin with
    #   timeout: 5s          for one reading, of devices that are read
    #   publish: 0s          one event for so long, made of all readings in it
    #   as: mean             or min, max, median, last, sum
    #   silence: 0s          the longest time without an event; 0s for any
    #   readings:            of single ones, by name
    #     temperature:
    #       offset: 0        calibration: value × gain + offset,
    #       gain: 1
    #       table: [[0, 0], [100, 99.2]]   or by pairs of what is read and what it means
    #       unit: Cel
    #       low: -20         beyond them a reading is flagged
    #       high: 60
    #       deadband: 0.2    no event for less change than that
    #       publish: 10s     as above, for this reading
    #       as: max
    #       silence: 10m
`
