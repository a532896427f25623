package main

import (
	"github.com/spf13/cobra"

	"holdfast/devices"
	"holdfast/devices/bme280"
	"holdfast/devices/bus"
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
			bme280.Driver,
		},
		Buses: bus.Buses{Simulated: simulated.Open},
	}
}
