package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"holdfast/gateway/broker"
	"holdfast/gateway/config"
	"holdfast/gateway/pemfile"
)

// MQTTConfig are the settings of the broker.
type MQTTConfig struct {
	Listen         []broker.Listener // none means no broker
	Users          string            // path of the password file; empty means none
	AllowAnonymous bool              // clients without a user name may connect, from anywhere
	ACL            *broker.ACL       // nil: everybody may do everything
	MaxPacket      int               // bytes
	Limits         broker.Limits
	MaxClients     int
	ReceiveMaximum uint16
	Sessions       broker.Sessions
}

// access reads who may connect and what for.
func (c MQTTConfig) access() (a broker.Access, err error) {
	a = broker.Access{AllowAnonymous: c.AllowAnonymous, ACL: c.ACL}
	if c.Users != "" {
		a.Users, err = broker.LoadUsers(c.Users)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w; make it with holdfast passwd", err)
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%w; the user that runs the gateway must be able to read it", err)
	}
	return a, err
}

// checkListeners returns what is wrong with the files of encrypted listeners.
func (c *Config) checkListeners() error {
	all := []*broker.TLS{c.Ingest.TLS}
	for _, l := range c.MQTT.Listen {
		all = append(all, l.TLS)
	}
	for _, t := range all {
		if t != nil {
			if err := t.Check(); err != nil {
				return err
			}
		}
	}
	return nil
}

// fixed are the settings that take effect at the next start.
func (c MQTTConfig) fixed() MQTTConfig {
	c.Users, c.AllowAnonymous, c.ACL = "", false, nil
	return c
}

type mqttSettings struct {
	Listen         []*config.Section `config:"listen"`
	Users          config.Path       `config:"users"`
	AllowAnonymous bool              `config:"allow_anonymous"`
	ACL            []*config.Section `config:"acl"`
	MaxPacket      config.Size       `config:"max_packet,min=1KiB,max=4MiB"`
	MaxClients     int               `config:"max_clients,min=1"`
	ReceiveMaximum uint16            `config:"receive_maximum,min=1"`
	ConnectTimeout config.Duration   `config:"connect_timeout,min=1s,max=5m"`
	MaxTopicBytes  int               `config:"max_topic_bytes,min=16,max=65535"`
	MaxTopicLevels int               `config:"max_topic_levels,min=1,max=128"`
	MaxSubs        int               `config:"max_subscriptions,min=1,max=100000"`
	MaxRetained    config.Size       `config:"max_retained,min=64KiB"`
	Sessions       sessionSettings   `config:"sessions"`
}

// sessionSettings bound what is kept for subscribers that are away.
type sessionSettings struct {
	Max    config.Size     `config:"max,min=64KiB"`
	MaxAge config.Duration `config:"max_age"`
	Expiry config.Duration `config:"expiry,min=1s"`
}

func defaultMQTT() mqttSettings {
	return mqttSettings{
		MaxPacket: 256 << 10, MaxClients: 10_000, ReceiveMaximum: 1024,
		ConnectTimeout: config.Duration(10 * time.Second), MaxTopicBytes: 4096, MaxTopicLevels: 128, MaxSubs: 1000, MaxRetained: 64 << 20,
		Sessions: sessionSettings{Max: 64 << 20, Expiry: config.Duration(7 * 24 * time.Hour)},
	}
}

const defaultListen = "127.0.0.1:1883"

type listenSettings struct {
	Address   string             `config:"address,required"`
	TLS       *tlsSettings       `config:"tls"`
	WebSocket *webSocketSettings `config:"websocket"`
	Proxy     string             `config:"proxy_protocol,oneof=v2"`
}

type tlsSettings struct {
	Cert       config.Path `config:"cert,required"`
	Key        config.Path `config:"key,required"`
	ClientCA   config.Path `config:"client_ca"`
	ClientCert string      `config:"client_cert,oneof=require|optional"`
	UserFrom   string      `config:"user_from,oneof=cn|san|none"`
}

type webSocketSettings struct {
	Path    string   `config:"path"`
	Origins []string `config:"origins"`
}

type aclSettings struct {
	Users  []string `config:"users,required"`
	Allow  []string `config:"allow"`
	Deny   []string `config:"deny"`
	Topics []string `config:"topics,required"`
}

func (l *loader) mqtt(s mqttSettings) {
	l.c.MQTT = MQTTConfig{
		Users: string(s.Users), AllowAnonymous: s.AllowAnonymous,
		MaxPacket: int(s.MaxPacket), MaxClients: s.MaxClients, ReceiveMaximum: s.ReceiveMaximum,
		Limits: broker.Limits{
			ConnectTimeout: time.Duration(s.ConnectTimeout), TopicBytes: s.MaxTopicBytes,
			TopicLevels: s.MaxTopicLevels, Subscriptions: s.MaxSubs, Retained: int64(s.MaxRetained),
		},
		Sessions: broker.Sessions{Max: int64(s.Sessions.Max), MaxAge: time.Duration(s.Sessions.MaxAge), Expiry: time.Duration(s.Sessions.Expiry)},
	}
	if l.files != noFiles {
		if _, err := l.c.MQTT.access(); err != nil {
			l.errorf("mqtt.users", "%v", err)
		}
	}
	if s.Listen == nil {
		l.c.MQTT.Listen = []broker.Listener{{Address: defaultListen}}
	}
	for _, item := range s.Listen {
		if listener, ok := l.listener(item); ok {
			l.c.MQTT.Listen = append(l.c.MQTT.Listen, listener)
		}
	}
	if mqtt := l.root.Child("mqtt"); mqtt != nil && mqtt.Has("acl") {
		l.acl(s.ACL)
	}
}

// listener reads one item of mqtt.listen: an address, or one with its settings.
func (l *loader) listener(item *config.Section) (b broker.Listener, ok bool) {
	var set listenSettings
	key := ""
	if item.Kind() == config.Mapping {
		l.errs.Add(item.Decode(&set))
		key = "address"
		if set.Address == "" {
			return b, false // reported as a missing key
		}
	} else {
		l.errs.Add(item.Decode(&set.Address))
	}
	b.Address = l.addressIn(item, key, set.Address)
	b.Proxy = set.Proxy != ""
	if s := item.Child("tls"); s != nil {
		b.TLS = l.tls(s, set.TLS)
	}
	if s := item.Child("websocket"); s != nil {
		b.WebSocket = l.webSocket(s, set.WebSocket)
	}
	if b.Address == "" || loopback(b.Address) && !b.Proxy {
		return b, b.Address != ""
	}
	mqtt, address := &l.c.MQTT, b.Address
	if b.Proxy {
		address += " through the proxy"
	}
	byCert := b.TLS != nil && b.TLS.ClientCA != ""
	switch {
	case mqtt.Users == "" && !mqtt.AllowAnonymous && !byCert:
		l.errs.Add(item.Errorf(key, "other machines can reach %s: name the file with those who may connect as users "+
			"(holdfast passwd writes it), ask for certificates with tls: {client_ca: …}, or let everybody in with allow_anonymous: true", address))
	case mqtt.Users != "" && b.TLS == nil && !loopback(b.Address): // a proxy beside the gateway may be where TLS ends
		l.c.Warnings.Add(item.Errorf(key, "other machines can reach %s, and what they send there can be read on the way, passwords too: "+
			"give it a certificate with tls: {cert: …, key: …}, or see to it that the network is yours alone", b.Address))
	}
	return b, true
}

func (l *loader) tls(s *config.Section, set *tlsSettings) *broker.TLS {
	if set == nil { // nothing below the key must not mean no encryption
		l.errs.Add(s.Errorf("", "tls needs cert and key"))
		return &broker.TLS{}
	}
	t := &broker.TLS{
		Cert: string(set.Cert), Key: string(set.Key), ClientCA: string(set.ClientCA),
		Optional: set.ClientCert == "optional", UserFrom: set.UserFrom,
	}
	if set.ClientCA == "" {
		for _, key := range []string{"client_cert", "user_from"} {
			if s.Has(key) {
				l.errs.Add(s.Errorf(key, "%s needs client_ca, the file with the authorities whose certificates are taken", key))
			}
		}
	} else if t.UserFrom == "" {
		t.UserFrom = broker.UserFromCN
	}
	if l.files != noFiles {
		l.errs.Add(pemfile.CheckPair(s, pemfile.File{Key: "cert", Path: t.Cert}, pemfile.File{Key: "key", Path: t.Key}))
		l.errs.Add(pemfile.CheckAuthorities(s, pemfile.File{Key: "client_ca", Path: t.ClientCA}))
	}
	return t
}

func (l *loader) webSocket(s *config.Section, set *webSocketSettings) *broker.WebSocket {
	if set == nil {
		set = &webSocketSettings{}
	}
	w := &broker.WebSocket{Path: set.Path, Origins: set.Origins}
	switch {
	case w.Path == "":
		w.Path = "/mqtt"
	case w.Path[0] != '/':
		l.errs.Add(s.Errorf("path", "%q is not the path of a URL; it begins with a slash, as in /mqtt", w.Path))
	}
	for i, o := range w.Origins {
		if err := broker.CheckOrigin(o); err != nil {
			l.errs.Add(s.Errorf(fmt.Sprintf("origins.%d", i), "%q: %v", o, err))
		}
	}
	return w
}

// acl reads the rules of who may publish and subscribe to what.
func (l *loader) acl(items []*config.Section) {
	if len(items) == 0 {
		l.errorf("mqtt.acl", "without a rule nobody may do anything; remove acl to allow everything, or write a rule")
		return
	}
	rules := make([]broker.Rule, 0, len(items))
	for _, item := range items {
		var set aclSettings
		if err := item.Decode(&set); err != nil {
			l.errs.Add(err)
			continue
		}
		rule := broker.Rule{Users: set.Users, Topics: set.Topics, Deny: item.Has("deny"), At: item.Pos().String()}
		key, actions := "allow", set.Allow
		if rule.Deny {
			key, actions = "deny", set.Deny
		}
		if item.Has("allow") == item.Has("deny") {
			l.errs.Add(item.Errorf("", "a rule of the acl has either allow or deny, with publish, subscribe or both"))
			continue
		}
		for i, a := range actions {
			switch a {
			case "publish":
				rule.Publish = true
			case "subscribe":
				rule.Subscribe = true
			default:
				l.errs.Add(item.Errorf(fmt.Sprintf("%s.%d", key, i), "%q cannot be allowed or denied; there are publish and subscribe", a))
			}
		}
		for _, empty := range []struct {
			key string
			n   int
		}{{"users", len(set.Users)}, {key, len(actions)}, {"topics", len(set.Topics)}} {
			if empty.n == 0 {
				l.errs.Add(item.Errorf(empty.key, "%s is empty, so that the rule does nothing", empty.key))
			}
		}
		for i, t := range set.Topics {
			if err := broker.CheckPattern(t); err != nil {
				l.errs.Add(item.Errorf(fmt.Sprintf("topics.%d", i), "%v", err))
			}
		}
		rules = append(rules, rule)
	}
	if acl, err := broker.NewACL(rules); err == nil { // otherwise it has been said
		l.c.MQTT.ACL = acl
	}
}
