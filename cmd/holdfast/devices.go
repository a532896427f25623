package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast/devices"
	"holdfast/gateway/ops"
)

func devicesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "Show, find, read and command the devices wired to the gateway",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(devicesListCommand(), devicesScanCommand(), devicesReadCommand(), devicesWriteCommand(), devicesDriversCommand())
	return cmd
}

func devicesListCommand() *cobra.Command {
	return listCommand("Show how each device does, with its last error",
		func(ctx context.Context, client *ops.Client, w io.Writer, output outputFlag) error {
			all, err := client.Devices(ctx)
			if err != nil {
				return err
			}
			if output == outputJSON {
				return writeLine(w, all)
			}
			return listDevices(w, all, time.Now())
		})
}

func listDevices(out io.Writer, all []ops.DeviceStatus, now time.Time) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(out, "no devices are configured; holdfast devices scan looks for some, holdfast devices drivers shows how to configure them")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "DEVICE\tDRIVER\tSTATE\tLAST READ\tCAPTURED\tMISSED\tFAILURES\tLAST ERROR")
	for _, d := range all {
		read, failed := "never", "none"
		if !d.LastRead.IsZero() {
			read = age(now.Sub(d.LastRead)) + " ago"
		}
		if d.Error != "" {
			failed = fmt.Sprintf("%s ago: %s", age(now.Sub(d.ErrorAt)), d.Error)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\n", d.Name, d.Driver, d.State, read, d.Captured, d.Missed+d.Overruns, d.Failures, failed)
		if d.Lost > 0 || d.OutOfRange > 0 {
			fmt.Fprintf(w, "\t\t\t\t\t\t\t%s\n", strings.Join(troubles(d), ", "))
		}
	}
	return w.Flush()
}

func troubles(d ops.DeviceStatus) (all []string) {
	if d.Lost > 0 {
		all = append(all, fmt.Sprintf("%s lost", plural(int(d.Lost), "edge")))
	}
	if d.OutOfRange > 0 {
		all = append(all, fmt.Sprintf("%s out of range", plural(int(d.OutOfRange), "reading")))
	}
	return all
}

func devicesScanCommand() *cobra.Command {
	var (
		gateway gatewayFlags
		output  outputFlag
		limit   time.Duration
	)
	cmd := &cobra.Command{
		Use:   "scan",
		Short: "Look for devices at the buses of the gateway's machine",
		Long: `Look for devices at the buses of the gateway's machine: at each I2C address one
byte is read, except where a device is configured. Names the drivers that
could be right for an address, the selects of SPI buses, and who has each GPIO
line.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := gateway.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			all, err := client.Scan(ctx)
			if err != nil {
				return err
			}
			if output == outputJSON {
				return writeLine(cmd.OutOrStdout(), all)
			}
			return listFound(cmd.OutOrStdout(), all)
		},
	}
	gateway.register(cmd)
	output.register(cmd)
	cmd.Flags().DurationVar(&limit, "timeout", time.Minute, "the longest that the scan may take")
	return cmd
}

func listFound(out io.Writer, all []ops.DeviceFound) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(out, "no buses were found; enable I2C, or load the module i2c-dev")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "BUS\tAT\tNAME\tDEVICE\tDRIVERS")
	for _, f := range all {
		if f.Error != "" {
			fmt.Fprintf(w, "%s\t!\t\t\t%s\n", f.Bus, f.Error)
			continue
		}
		bus := f.Bus
		if f.Label != "" {
			bus += " (" + f.Label + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", bus, orDash(f.At), orDash(f.Name), orDash(f.Device), orDash(strings.Join(f.Drivers, ", ")))
	}
	return w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func devicesReadCommand() *cobra.Command {
	var (
		gateway gatewayFlags
		output  outputFlag
		watch   bool
	)
	cmd := &cobra.Command{
		Use:   "read NAME",
		Short: "Print the newest readings of a device",
		Long: `Print the newest readings of a device, as they were read and calibrated,
published or not. With --watch also every event of the device from then on,
until interrupted.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := gateway.client()
			if err != nil {
				return err
			}
			d, err := findDevice(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if output == outputJSON && !watch {
				return writeLine(out, d.Readings)
			}
			if output == outputText {
				if err := printReadings(out, d); err != nil {
					return err
				}
			}
			if !watch {
				return nil
			}
			return client.Tail(cmd.Context(), ops.TailQuery{Filter: d.Topic + "/#"}, func(it ops.Item) error {
				return printItem(out, output, it)
			})
		},
	}
	gateway.register(cmd)
	output.register(cmd)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on with every event of the device")
	return cmd
}

func findDevice(ctx context.Context, client *ops.Client, name string) (d ops.DeviceStatus, err error) {
	all, err := client.Devices(ctx)
	if err != nil {
		return d, err
	}
	var names []string
	for _, d := range all {
		if d.Name == name {
			return d, nil
		}
		names = append(names, d.Name)
	}
	return d, fmt.Errorf("there is no device %s; there are: %s", quote(name), orDash(strings.Join(names, ", ")))
}

func printReadings(out io.Writer, d ops.DeviceStatus) error {
	if len(d.Readings) == 0 {
		text := fmt.Sprintf("%s is %s and has no readings yet", d.Name, d.State)
		if d.Error != "" {
			text += ": " + d.Error
		}
		_, err := fmt.Fprintln(out, text)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, r := range d.Readings {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.At.Local().Format("2006-01-02T15:04:05.000Z07:00"), r.Name,
			strconv.FormatFloat(r.Value, 'f', -1, 64), r.Unit, r.Quality)
	}
	return w.Flush()
}

func devicesWriteCommand() *cobra.Command {
	var (
		gateway gatewayFlags
		wait    time.Duration
	)
	cmd := &cobra.Command{
		Use:   "write NAME VALUE",
		Short: "Give a command to an output, and wait for what becomes of it",
		Long: `Give a command to an output, and wait for what becomes of it. NAME is that of
the device, or DEVICE/OUTPUT where it has several. VALUE is on, off, a number
from 0 to 1, or an object such as {"value": "on", "for": "500ms"}. The command
takes the same way as those over MQTT, and is in the log.`,
		Example: `  holdfast devices write pump on
  holdfast devices write bell '{"value": "on", "blink": "250ms", "times": 3}'`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := devices.ParseOrder(devices.Command{Payload: []byte(args[1])}, time.Now()); err != nil {
				return usagef("%w", err)
			}
			client, err := gateway.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), wait)
			defer cancel()
			written, err := client.Write(ctx, args[0], []byte(args[1]))
			if err != nil {
				return err
			}
			return awaitReport(ctx, client, written, cmd.OutOrStdout())
		},
	}
	gateway.register(cmd)
	cmd.Flags().DurationVar(&wait, "wait", 15*time.Second, "the longest to wait for what becomes of it")
	return cmd
}

// awaitReport waits for the event that tells what became of a command.
func awaitReport(ctx context.Context, client *ops.Client, written ops.Written, out io.Writer) error {
	var report struct{ ID, State, Error string }
	q := ops.TailQuery{Stream: written.Stream, Filter: written.Topic, From: written.From}
	err := client.Tail(ctx, q, func(it ops.Item) error {
		f, err := it.Fields()
		if err != nil {
			return err
		}
		report.Error = ""
		if err := json.Unmarshal(f.Payload(), &report); err != nil {
			return err
		}
		if report.ID == written.ID {
			return errEnough
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough) && report.State == "done":
		_, err := fmt.Fprintln(out, "done")
		return err
	case errors.Is(err, errEnough) && report.Error != "":
		return fmt.Errorf("the command was %s: %s", report.State, report.Error)
	case errors.Is(err, errEnough):
		return fmt.Errorf("the command was %s", report.State)
	case err == nil && ctx.Err() != nil:
		return errors.New("nothing came back about the command; holdfast devices list shows how the device does")
	}
	return err
}

func devicesDriversCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "drivers [NAME]",
		Short: "Show the drivers, their settings and a sample of each",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			all := parts().Drivers
			if len(args) == 0 {
				w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
				for _, d := range all {
					fmt.Fprintf(w, "%s\t%s\n", d.Name, d.Doc)
				}
				fmt.Fprintln(w)
				fmt.Fprintln(w, "holdfast devices drivers NAME shows the settings of one, and those of every device.")
				return w.Flush()
			}
			for _, d := range all {
				if d.Name == args[0] {
					_, err := io.WriteString(out, devices.Manual(d))
					return err
				}
			}
			return usagef("there is no driver %s; holdfast devices drivers lists them", quote(args[0]))
		},
	}
}
