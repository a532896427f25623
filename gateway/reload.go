package gateway

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// Reload reads the configuration again and applies rules, the limits of streams,
// destinations, devices, and who may do what over MQTT and HTTP, without
// touching an MQTT client that may stay; what needs a restart it logs. A
// configuration with mistakes changes nothing. Cursors of destinations that are
// gone keep their place.
func (g *Gateway) Reload(context.Context) (err error) {
	if g.o.Reloading != nil {
		over := g.o.Reloading()
		defer func() { over(err) }()
	}
	if g.o.Load == nil {
		return errors.New("reload: this gateway was started without a configuration file")
	}
	cfg, err := g.o.Load()
	if err != nil {
		return err
	}
	g.change.Lock()
	defer g.change.Unlock()
	if g.stopped {
		return errors.New("reload: the gateway is stopping")
	}
	select {
	case <-g.ready:
	default:
		return errors.New("reload: the gateway is still starting; try again in a moment")
	}
	old := g.config.Load()
	if cfg.Store.Path != old.Store.Path || cfg.Gateway != old.Gateway {
		return fmt.Errorf("reload: store.path and gateway cannot change while the gateway runs; restart it to move from %s (%s) to %s (%s)",
			old.Store.Path, old.Gateway, cfg.Store.Path, cfg.Gateway)
	}
	access, err := cfg.MQTT.access()
	if err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	if !reflect.DeepEqual(cfg.MQTT.fixed(), old.MQTT.fixed()) || cfg.HTTP != old.HTTP || cfg.Store != old.Store || !reflect.DeepEqual(cfg.Ingest.fixed(), old.Ingest.fixed()) || !slices.EqualFunc(cfg.Streams, old.Streams, sameTopics) {
		g.logger.Warn("store.linger, the listeners and limits of mqtt, the settings of http, those of ingest but for its tokens, and the topics of streams take effect at the next start")
	}
	if g.ingest != nil {
		if err := g.ingest.SetTokens(cfg.Ingest.Tokens); err != nil {
			return fmt.Errorf("reload: ingest.tokens: %w", err)
		}
	}
	if err := g.log.Configure(streamOptions(cfg)); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	g.followStreams()
	if err := g.reloadDestinations(cfg); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	if cfg.DeviceSettings != old.DeviceSettings {
		g.stopDevices()
		if err := g.startDevices(cfg); err != nil {
			return fmt.Errorf("reload: %w", err)
		}
	}
	g.broker.SetAccess(access)
	g.config.Store(cfg)
	g.stopRules()
	if err := g.startRules(cfg); err != nil {
		g.fail(err)
		return fmt.Errorf("reload: %w", err)
	}
	g.logger.Info("configuration reloaded", "destinations", len(cfg.Destinations))
	return nil
}

func sameTopics(a, b StreamConfig) bool { return slices.Equal(a.Topics, b.Topics) }

// reloadDestinations stops those that are gone or have changed, and starts
// those that are new or have changed; the others go on undisturbed.
func (g *Gateway) reloadDestinations(cfg *Config) error {
	for name, d := range g.destinations {
		i := slices.IndexFunc(cfg.Destinations, func(c DestinationConfig) bool { return c.Name == name })
		if i >= 0 && cfg.Destinations[i].Settings == d.config.Settings {
			continue
		}
		if err := d.close(true); err != nil {
			g.logger.Warn("destination did not close", "destination", name, "err", err)
		}
		g.mu.Lock()
		delete(g.destinations, name)
		g.mu.Unlock()
	}
	for _, c := range cfg.Destinations {
		if g.destinations[c.Name] != nil {
			continue
		}
		if err := g.startDestination(c); err != nil {
			return err
		}
	}
	return nil
}
