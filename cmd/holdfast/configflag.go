package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"holdfast/gateway"
	"holdfast/gateway/ops"
)

// defaultConfig is where a service has its configuration.
const defaultConfig = "/etc/holdfast/holdfast.yaml"

// configFlag is --config: the files of one configuration.
type configFlag struct{ paths []string }

func (c *configFlag) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&c.paths, "config", "c", nil,
		"configuration `FILE`, may be repeated (default $HOLDFAST_CONFIG, else "+defaultConfig+")")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
}

// given reports whether the user named a configuration.
func (c *configFlag) given() bool {
	return len(c.paths) > 0 || os.Getenv("HOLDFAST_CONFIG") != ""
}

// files returns the files of the configuration.
func (c *configFlag) files() []string {
	if len(c.paths) > 0 {
		return c.paths
	}
	if env := os.Getenv("HOLDFAST_CONFIG"); env != "" {
		return filepath.SplitList(env)
	}
	return []string{defaultConfig}
}

// load reads the configuration; the error is config.Errors.
func (c *configFlag) load() (*gateway.Config, error) {
	return gateway.Load(c.files(), parts())
}

// loadWithFiles is load for a gateway that is to run here.
func (c *configFlag) loadWithFiles() (*gateway.Config, error) {
	return gateway.LoadWithFiles(c.files(), parts())
}

// loadToStart is loadWithFiles for a gateway that starts.
func (c *configFlag) loadToStart() (*gateway.Config, error) {
	return gateway.LoadToStart(c.files(), parts())
}

// gatewayFlags say which running gateway a command talks to.
type gatewayFlags struct {
	config configFlag
	socket string
}

func (g *gatewayFlags) register(cmd *cobra.Command) {
	g.config.register(cmd)
	cmd.Flags().StringVar(&g.socket, "socket", "",
		"control socket of the gateway, `PATH` (default: where the configuration and the environment say)")
	_ = cmd.MarkFlagFilename("socket", "sock")
}

// listCommand is the command "list" about something of the running gateway.
func listCommand(short string, list func(ctx context.Context, client *ops.Client, w io.Writer, output outputFlag) error) *cobra.Command {
	var (
		gateway gatewayFlags
		output  outputFlag
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := gateway.client()
			if err != nil {
				return err
			}
			return list(cmd.Context(), client, cmd.OutOrStdout(), output)
		},
	}
	gateway.register(cmd)
	output.register(cmd)
	return cmd
}

// client returns a client for the gateway. A configuration with mistakes does
// not keep the user from asking the gateway that runs; one that was named and
// cannot be read is an error.
func (g *gatewayFlags) client() (*ops.Client, error) {
	if g.socket != "" {
		return ops.NewClient(g.socket), nil
	}
	cfg, err := g.config.load()
	switch {
	case err == nil:
		return ops.NewClient(ops.SocketPaths(cfg.Store.Path)...), nil
	case g.config.given() && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)):
		return nil, err
	}
	return ops.NewClient(ops.SocketPaths(gateway.StorePath(g.config.files()))...), nil
}
