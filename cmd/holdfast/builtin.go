package main

import (
	"github.com/spf13/cobra"
	"periph.io/x/conn/v3/spi"

	"holdfast/devices"
	"holdfast/devices/bus"
	"holdfast/devices/drivers"
	"holdfast/devices/sim"
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

// parts are what a configuration can name. A new kind of destination is one line
// here, a new driver one in the list of its package.
func parts() gateway.Parts {
	return gateway.Parts{
		Sinks: []forward.Kind{
			httpsink.Kind,
			filesink.Kind,
			mqttsink.Kind,
		},
		Drivers: drivers.All,
		Buses: bus.Buses{
			Simulated:        simulated.Open,
			SimulatedSPI:     func(board string, sel uint16) spi.PortCloser { return simulated.SPI(board).Port(sel) },
			SimulatedOneWire: func(board string) devices.OneWire { return simulated.OneWire(board) },
			SimulatedLines:   &simulated.GPIO,
		},
	}
}
