package mqttsink

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

type settings struct {
	URL          string          `config:"url,required"`
	ClientID     string          `config:"client_id"`
	Username     string          `config:"username"`
	Password     config.Secret   `config:"password"`
	PasswordFile config.Path     `config:"password_file"`
	KeepAlive    config.Duration `config:"keep_alive,min=5s,max=18h"`
	TLS          tlsSettings     `config:"tls"`

	Topic       string      `config:"topic"`
	QoS         int         `config:"qos,min=0,max=1"`
	Retain      string      `config:"retain,oneof=never|keep|always"`
	Payload     string      `config:"payload,oneof=raw|item"`
	MaxPayload  config.Size `config:"max_payload,min=1"`
	MaxInflight int         `config:"max_inflight,min=1,max=10000"`

	Bridge      bool                   `config:"bridge"`
	Peers       []string               `config:"peers"`
	Status      *statusSettings        `config:"status"`
	Subscribe   []subscriptionSettings `config:"subscribe"`
	SubscribeID string                 `config:"subscribe_client_id"`
}

type statusSettings struct {
	Topic   string  `config:"topic,required"`
	Online  *string `config:"online"`
	Offline *string `config:"offline"`
	Retain  *bool   `config:"retain"`
}

type subscriptionSettings struct {
	Topic  string `config:"topic,required"`
	QoS    *int   `config:"qos,min=0,max=1"`
	To     string `config:"to"`
	Retain bool   `config:"retain"`
}

// plan is what the settings of one destination amount to.
type plan struct {
	name string // of the destination
	far  far
	id   template // client identifier of the sink
	down template // client identifier of the downlink

	topic      template
	qos        byte
	retain     string
	item       bool
	maxPayload int
	inflight   int
	peers      []string

	subscriptions []subscription
	status        *statusPlan
}

type subscription struct {
	filter string
	qos    byte
	to     template
	retain bool
}

type statusPlan struct {
	topic           template
	online, offline string
	retain          bool
}

// The names that may stand in each template, in the order in which their
// values are given to render.
var (
	topicNames = []string{"topic", "gateway", "stream"}
	downNames  = []string{"topic", "gateway"}
	idNames    = []string{"gateway", "destination"}
)

var schemes = map[string]struct {
	port     string
	tls, web bool
}{
	"tcp": {"1883", false, false}, "mqtt": {"1883", false, false},
	"ssl": {"8883", true, false}, "tls": {"8883", true, false}, "mqtts": {"8883", true, false},
	"ws": {"80", false, true}, "wss": {"443", true, true},
}

// read checks the settings of one destination.
func read(s *config.Section) (*plan, error) {
	set := settings{
		ClientID: "holdfast-{gateway}-{destination}", KeepAlive: config.Duration(30 * time.Second),
		Topic: "{topic}", QoS: 1, Retain: "never", Payload: "raw", MaxPayload: math.MaxInt32, MaxInflight: 100,
		Bridge: true,
	}
	r := reader{s: s}
	r.errs.Add(s.Decode(&set))
	p := &plan{
		name: s.Name(), qos: byte(set.QoS), retain: set.Retain, item: set.Payload == "item",
		maxPayload: int(min(set.MaxPayload, maxRemaining)), inflight: set.MaxInflight, peers: set.Peers,
		far: far{
			username: set.Username, password: set.Password.Reveal(), passwordFile: string(set.PasswordFile),
			keepAlive: set.KeepAlive.Std(), tls: set.TLS,
		},
	}
	p.far.plain.Store(!set.Bridge)
	r.url(set.URL, &p.far)
	set.TLS.check(s, p.far.url != nil && !schemes[p.far.url.Scheme].tls, &r.errs)
	if s.Has("password") && s.Has("password_file") {
		r.errorf("password_file", "password and password_file exclude each other; remove one")
	}
	if (s.Has("password") || s.Has("password_file")) && set.Username == "" {
		r.errorf("username", "a password needs a username")
	}

	p.id = r.template("client_id", set.ClientID, idNames)
	if set.SubscribeID == "" {
		set.SubscribeID = set.ClientID + "-down"
	}
	p.down = r.template("subscribe_client_id", set.SubscribeID, idNames)
	if set.SubscribeID == set.ClientID {
		r.errorf("subscribe_client_id", "subscribe_client_id must differ from client_id: the far side would end one connection for the other")
	}
	p.topic = r.topic("topic", set.Topic, topicNames)
	for i, peer := range set.Peers {
		if peer == "" {
			r.errorf(fmt.Sprintf("peers.%d", i), "a peer is the client identifier of a gateway; it cannot be empty")
		}
	}
	for i := range set.Subscribe {
		key := fmt.Sprintf("subscribe.%d", i)
		sub := r.subscription(key, &set.Subscribe[i])
		if slices.ContainsFunc(p.subscriptions, func(s subscription) bool { return s.filter == sub.filter }) {
			r.errorf(key+".topic", "%q is subscribed to already", sub.filter)
		}
		p.subscriptions = append(p.subscriptions, sub)
	}
	if st := set.Status; st != nil {
		p.status = &statusPlan{r.topic("status.topic", st.Topic, idNames), "online", "offline", true}
		set.Status.override(p.status)
	}
	if err := r.errs.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

func (st *statusSettings) override(p *statusPlan) {
	if st.Online != nil {
		p.online = *st.Online
	}
	if st.Offline != nil {
		p.offline = *st.Offline
	}
	if st.Retain != nil {
		p.retain = *st.Retain
	}
}

// reader collects mistakes.
type reader struct {
	s    *config.Section
	errs config.Errors
}

func (r *reader) errorf(key, format string, args ...any) {
	r.errs.Add(r.s.Errorf(key, format, args...))
}

func (r *reader) url(text string, f *far) {
	if text == "" {
		return // Decode has said so
	}
	u, err := url.Parse(text)
	if err != nil {
		r.errorf("url", "url cannot be read; write scheme://host:port")
		return
	}
	scheme, known := schemes[u.Scheme]
	switch {
	case !known || u.Hostname() == "":
		r.errorf("url", "url must begin with tcp://, ssl://, ws:// or wss:// and a host")
		return
	case u.User != nil:
		e := r.s.Errorf("url", "url must not hold a user or password, which would show in logs; use username and password")
		e.Source = "" // it would show here too
		r.errs.Add(e)
		return
	case !scheme.web && (u.Path != "" && u.Path != "/" || u.RawQuery != ""):
		r.errorf("url", "only ws:// and wss:// take a path")
		return
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), scheme.port)
	}
	if scheme.web && u.Path == "" {
		u.Path = "/mqtt"
	}
	f.url, f.label = u, u.Scheme+"://"+u.Host
}

func (r *reader) template(key, text string, names []string) template {
	t, err := parseTemplate(text, names...)
	if err != nil {
		r.errorf(key, "%v", err)
	} else if text == "" || len(text) > event.MaxTopicBytes || strings.IndexByte(text, 0) >= 0 {
		r.errorf(key, "%s must be a text of 1 to %d bytes", key, event.MaxTopicBytes)
	}
	return t
}

// topic checks a template of a topic name.
func (r *reader) topic(key, text string, names []string) template {
	before := len(r.errs)
	t := r.template(key, text, names)
	if len(r.errs) == before {
		if err := event.CheckTopic(t.render(names...)); err != nil {
			r.errorf(key, "%v", err)
		}
	}
	return t
}

func (r *reader) subscription(key string, set *subscriptionSettings) subscription {
	sub := subscription{filter: set.Topic, qos: 1, retain: set.Retain}
	if set.QoS != nil {
		sub.qos = byte(*set.QoS)
	}
	if set.Topic != "" { // Decode has said so
		if err := event.CheckFilter(set.Topic); err != nil {
			r.errorf(key+".topic", "%v", err)
		} else if strings.HasPrefix(set.Topic, "$share/") || strings.HasPrefix(set.Topic, "$queue/") {
			r.errorf(key+".topic", "a shared subscription would give the gateway only some of the messages")
		}
	}
	if set.To == "" {
		set.To = "{topic}"
	}
	sub.to = r.topic(key+".to", set.To, downNames)
	if strings.HasPrefix(set.To, "$") || sub.to.begins(0) && strings.HasPrefix(set.Topic, "$") {
		at := key + ".to"
		if set.To == "{topic}" {
			at = key
		}
		r.errorf(at, "topics of events cannot begin with $; write one such as to: \"down/{topic}\"")
	}
	return sub
}
