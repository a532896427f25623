package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/gateway/ops"
)

func reloadCommand() *cobra.Command {
	var gateway gatewayFlags
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make the running gateway read its configuration again",
		Long: `Make the running gateway read its configuration again: the files that it was
started with. MQTT clients stay connected and the backlog stays as it is. If
the configuration has mistakes they are shown, and the gateway goes on with
the one it has.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := gateway.client()
			if err != nil {
				return err
			}
			err = client.Reload(cmd.Context())
			var refused *ops.ConfigError
			if errors.As(err, &refused) {
				fmt.Fprintf(cmd.ErrOrStderr(), "%v\nthe gateway goes on with the configuration it has\n", err)
				return &exitError{code: exitConfig}
			}
			return err
		},
	}
	gateway.register(cmd)
	return cmd
}
