package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
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
			filters := map[string]byte{}
			for _, filter := range args {
				if err := event.CheckFilter(filter); err != nil {
					return usagef("%w", err)
				}
				filters[filter] = f.qos
			}
			if err := f.check(); err != nil {
				return err
			}
			ctx := cmd.Context()
			messages := make(chan mqtt.Message)
			done := make(chan struct{})
			s, err := f.connect(ctx, "sub", func(_ mqtt.Client, m mqtt.Message) {
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
			// Without a handler of its own, so that a message that matches two
			// filters is not printed twice.
			token := s.SubscribeMultiple(filters, nil)
			granted := token.Done()
			for n := 0; count == 0 || n < count; {
				select {
				case m := <-messages:
					if err := printMessage(cmd.OutOrStdout(), output, m); err != nil {
						return err
					}
					n++
				case <-granted:
					granted = nil
					if err := subscribed(token); err != nil {
						return err
					}
					if verbose {
						fmt.Fprintf(cmd.ErrOrStderr(), "subscribed at %s\n", s.address)
					}
				case err := <-s.lost:
					return fmt.Errorf("the connection to %s was lost: %w", s.address, err)
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

// subscribed returns what the broker refused of a subscription.
func subscribed(t mqtt.Token) error {
	if err := t.Error(); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	var errs []error
	if s, ok := t.(*mqtt.SubscribeToken); ok {
		for filter, code := range s.Result() {
			if code == 0x80 { // MQTT 3.1.1, section 3.9.3
				errs = append(errs, fmt.Errorf("subscribe: the broker refused %s", quote(filter)))
			}
		}
	}
	return errors.Join(errs...)
}

func printMessage(w io.Writer, output outputFlag, m mqtt.Message) error {
	if output == outputText {
		_, err := fmt.Fprintf(w, "%s %s\n", m.Topic(), readable(m.Payload()))
		return err
	}
	line := message{Topic: m.Topic(), Time: time.Now(), QoS: m.Qos(), Retain: m.Retained()}
	if json.Valid(m.Payload()) {
		line.Data = m.Payload()
	} else {
		line.DataBase64 = m.Payload()
	}
	return writeLine(w, line)
}
