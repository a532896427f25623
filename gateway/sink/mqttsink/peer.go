package mqttsink

import (
	"context"
	"strings"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// introductions is where gateways tell each other their names: who subscribes
// to it with the own name behind gets that of the other one. A gateway grants
// QoS 0 for the 1 that is asked for, and sends its name; other brokers know
// nothing of it, and have nothing to say.
const (
	introductions = "$SYS/holdfast/bridge/"
	introduceQoS  = 1
	introduceTime = 2 * time.Second
)

// meet notes the name that the far side has told.
func (l *link) meet(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.peer == "" && name != "" {
		l.peer = name
		close(l.met)
	}
}

// far is the name of the gateway on the far side, "" if that is none.
func (l *link) far() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peer
}

// introduce subscribes to the filters, and to the introduction as well if the
// far side takes us for a bridge. The result has the filters' codes only.
func (c *connection) introduce(ctx context.Context, gateway string, filters map[string]byte) (map[string]byte, error) {
	topic := introductions + gateway
	if c.bridge && !strings.ContainsAny(gateway, "+#/") {
		filters[topic] = introduceQoS
	}
	if len(filters) == 0 {
		return nil, nil
	}
	c.link.subscribed(len(filters))
	token := c.SubscribeMultiple(filters, nil).(*paho.SubscribeToken)
	if err := await(ctx, c, token); err != nil {
		return nil, err
	}
	codes := token.Result()
	granted, asked := codes[topic]
	delete(codes, topic)
	if !asked || granted != 0 {
		return codes, nil
	}
	wait := time.NewTimer(introduceTime)
	defer wait.Stop()
	select {
	case <-c.link.met:
	case <-wait.C: // another broker after all
	case <-c.link.down:
		return nil, c.link.cause()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return codes, nil
}
