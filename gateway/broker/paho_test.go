package broker

import (
	"fmt"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
)

// pahoClient is a client of the kind that users have.
func pahoClient(t *testing.T, b *Broker, id string) paho.Client {
	t.Helper()
	o := paho.NewClientOptions().AddBroker("tcp://" + b.Addrs()[0].String()).SetClientID(id).
		SetCleanSession(false).SetAutoReconnect(false).SetOrderMatters(true)
	c := paho.NewClient(o)
	wait(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(50) })
	return c
}

func wait(t *testing.T, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("no answer: %v", token.Error())
	}
}

func TestPahoClientsTalkToEachOther(t *testing.T) {
	l := newFakeLog()
	routed := make(chan []event.Event, 1000)
	l.route = func(events []event.Event) { routed <- events }
	b := start(t, l)
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go func() {
		for {
			select {
			case events := <-routed:
				route(b, events)
			case <-stop:
				return
			}
		}
	}()
	for _, qos := range []byte{0, 1, 2} {
		t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
			from, to := pahoClient(t, b, fmt.Sprint("from", qos)), pahoClient(t, b, fmt.Sprint("to", qos))
			got := make(chan string, 1000)
			filter := fmt.Sprintf("q%d/+", qos)
			wait(t, to.Subscribe(filter, qos, func(_ paho.Client, m paho.Message) { got <- m.Topic() + " " + string(m.Payload()) }))
			var want []string
			var tokens []paho.Token
			for i := range 200 {
				topic := fmt.Sprintf("q%d/%d", qos, i)
				want = append(want, topic+" "+fmt.Sprint(i))
				tokens = append(tokens, from.Publish(topic, qos, false, fmt.Sprint(i)))
			}
			for _, token := range tokens {
				wait(t, token)
			}
			for i, w := range want {
				select {
				case g := <-got:
					if diff := cmp.Diff(w, g); diff != "" {
						t.Fatalf("message %d: %s", i, diff)
					}
				case <-time.After(patience):
					t.Fatalf("message %d did not arrive", i)
				}
			}
		})
	}
}
