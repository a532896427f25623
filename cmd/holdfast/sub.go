package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/spf13/cobra"

	"holdfast/gateway/event"
)

// message is one line of `sub -o json`.
type message struct {
	Topic      string          `json:"topic"`
	Time       time.Time       `json:"time"` // of arrival
	QoS        byte            `json:"qos"`
	Retain     bool            `json:"retain"`
	Data       json.RawMessage `json:"data,omitempty"`
	DataBase64 []byte          `json:"data_base64,omitempty"`
}

func subCommand() *cobra.Command {
	var (
		f       mqttFlags
		output  outputFlag
		count   int
		verbose bool
	)
	cmd := &cobra.Command{
		Use:   "sub FILTER...",
		Short: "Print messages as they are published",
		Long: `Subscribe over MQTT and print every message as a line: its topic and its
payload, as text if it is printable and in hexadecimal if it is not. Ends when
interrupted.`,
		Example: `  holdfast sub 'plant/+/temperature' 'alerts/#'`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var filters []string
			for _, filter := range args {
				if err := event.CheckFilter(filter); err != nil {
					return usagef("%w", err)
				}
				if !slices.Contains(filters, filter) {
					filters = append(filters, filter)
				}
			}
			if err := f.check(); err != nil {
				return err
			}
			ctx := cmd.Context()
			messages := make(chan *paho.Publish)
			done := make(chan struct{})
			s, err := f.connect(ctx, "sub", func(m *paho.Publish) {
				select {
				case messages <- m:
				case <-done:
				}
			})
			if err != nil {
				return err
			}
			defer s.close()
			defer close(done)
			granted := make(chan error, 1)
			go func() { granted <- s.subscribe(ctx, filters, f.qos) }() // messages come before the answer
			for n := 0; count == 0 || n < count; {
				select {
				case m := <-messages:
					if err := printMessage(cmd.OutOrStdout(), output, m); err != nil {
						return err
					}
					n++
				case err := <-granted:
					if err != nil {
						return err
					}
					if verbose {
						fmt.Fprintf(cmd.ErrOrStderr(), "subscribed at %s\n", s.address)
					}
				case <-s.lost:
					return s.why
				case <-ctx.Done():
					return nil
				}
			}
			return nil
		},
	}
	f.register(cmd)
	output.register(cmd)
	cmd.Flags().IntVarP(&count, "count", "n", 0, "end after so many messages")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "say when the subscription is in force")
	return cmd
}

func printMessage(w io.Writer, output outputFlag, m *paho.Publish) error {
	if output == outputText {
		_, err := fmt.Fprintf(w, "%s %s\n", m.Topic, readable(m.Payload))
		return err
	}
	line := message{Topic: m.Topic, Time: time.Now(), QoS: m.QoS, Retain: m.Retain}
	if json.Valid(m.Payload) {
		line.Data = m.Payload
	} else {
		line.DataBase64 = m.Payload
	}
	return writeLine(w, line)
}
