package main

import (
	"github.com/spf13/cobra"

	"holdfast/gateway"
	"holdfast/gateway/forward"
	"holdfast/gateway/sink/filesink"
	"holdfast/gateway/sink/httpsink"
)

// commands are what the binary can do.
func commands() []*cobra.Command {
	return []*cobra.Command{
		runCommand(),
		checkCommand(),
		statusCommand(),
		tailCommand(),
		pubCommand(),
		subCommand(),
		reloadCommand(),
		passwdCommand(),
		benchCommand(),
		storeCommand(),
		versionCommand(),
	}
}

// parts are what a configuration can name. A new part is one line here.
func parts() gateway.Parts {
	return gateway.Parts{
		Sinks: []forward.Kind{
			httpsink.Kind,
			filesink.Kind,
		},
	}
}
