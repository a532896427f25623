package main

import (
	"github.com/spf13/cobra"
	"periph.io/x/conn/v3/spi"

	"holdfast/devices"
	"holdfast/devices/ads1115"
	"holdfast/devices/bh1750"
	"holdfast/devices/bme280"
	"holdfast/devices/bus"
	"holdfast/devices/counter"
	"holdfast/devices/ds18b20"
	"holdfast/devices/encoder"
	"holdfast/devices/ina219"
	"holdfast/devices/ina226"
	"holdfast/devices/input"
	"holdfast/devices/mcp23017"
	"holdfast/devices/mcp9808"
	"holdfast/devices/output"
	"holdfast/devices/pwm"
	"holdfast/devices/registers"
	"holdfast/devices/scd4x"
	"holdfast/devices/sht3x"
	"holdfast/devices/sht4x"
	"holdfast/devices/sim"
	"holdfast/devices/tmp102"
	"holdfast/gateway"
	"holdfast/gateway/forward"
	"holdfast/gateway/sink/filesink"
	"holdfast/gateway/sink/httpsink"
	"holdfast/gateway/sink/mqttsink"
)

// commands are what the binary can do.
func commands() []*cobra.Command {
	return []*cobra.Command{
		runCommand(),
		checkCommand(),
		schemaCommand(),
		testCommand(),
		explainCommand(),
		demoCommand(),
		statusCommand(),
		deadCommand(),
		tailCommand(),
		replayCommand(),
		destinationCommand(),
		pubCommand(),
		subCommand(),
		rulesCommand(),
		reloadCommand(),
		passwdCommand(),
		devicesCommand(),
		benchCommand(),
		storeCommand(),
		versionCommand(),
	}
}

// simulated are the boards of buses named sim:NAME; they live as long as the
// process, whatever is reloaded.
var simulated sim.Boards

// parts are what a configuration can name. A new part is one line here.
func parts() gateway.Parts {
	return gateway.Parts{
		Sinks: []forward.Kind{
			httpsink.Kind,
			filesink.Kind,
			mqttsink.Kind,
		},
		Drivers: []devices.Driver{
			ads1115.Driver,
			bh1750.Driver,
			bme280.Driver,
			bme280.BMP280,
			counter.Driver,
			ds18b20.Driver,
			encoder.Driver,
			ina219.Driver,
			ina226.Driver,
			input.Driver,
			mcp23017.Driver,
			mcp9808.Driver,
			output.Driver,
			pwm.Driver,
			registers.Driver,
			scd4x.Driver,
			sht3x.Driver,
			sht4x.Driver,
			tmp102.Driver,
			tmp102.LM75,
		},
		Buses: bus.Buses{
			Simulated:        simulated.Open,
			SimulatedSPI:     func(board string, sel uint16) spi.PortCloser { return simulated.SPI(board).Port(sel) },
			SimulatedOneWire: func(board string) devices.OneWire { return simulated.OneWire(board) },
			SimulatedLines:   &simulated.GPIO,
		},
	}
}
