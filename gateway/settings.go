package gateway

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/devices"
	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/rules"
	"holdfast/storage"
)

// Config is everything a gateway is told, checked and with the defaults
// filled in.
type Config struct {
	Gateway         string // name of the gateway, first part of every identity
	Store           StoreConfig
	Streams         []StreamConfig // events, alerts and dead first, then by the file, then those that only rules name
	MQTT            MQTTConfig
	HTTP            HTTPConfig
	Ingest          IngestConfig
	Rules           *rules.Set          // nil if there are no rules
	Tables          []TableConfig       // lookup tables of the rules
	Destinations    []DestinationConfig // in the order of the file
	ShutdownTimeout time.Duration       // for everything from the signal to the exit

	// Devices makes the devices; nil if there are none. DeviceSettings is the
	// same as long as everything said about them is the same.
	Devices        func() (*devices.Set, error)
	DeviceSettings string
	Parts          Parts // what the configuration could name

	// Warnings are what the configuration allows but was hardly meant.
	Warnings config.Errors
}

// StoreConfig says where the log lives.
type StoreConfig struct {
	Path   string
	Linger time.Duration // the least time between commits that nobody waits for
}

// StreamConfig are the topics and limits of one stream.
type StreamConfig struct {
	Name      string
	Topics    []string       // filters of what it takes in; the first stream that matches has the event
	Max       int64          // bytes on disk; 0 means what Share says
	Share     float64        // of the file system, between 0 and 1; 0 means no limit
	MaxEvents uint64         // 0 means no limit
	Keep      time.Duration  // for delivered events
	MaxAge    time.Duration  // for all events; 0 means no limit
	WhenFull  storage.Policy // what becomes of new events then
}

// HTTPConfig are the settings of health and metrics.
type HTTPConfig struct {
	Listen string // host:port; empty means none
}

// Parts are the kinds that a configuration can name.
type Parts struct {
	Sinks   []forward.Kind
	Drivers []devices.Driver
	Buses   devices.Buses // where drivers find their devices
}

// The streams that every gateway has.
const (
	streamEvents = "events"
	streamAlerts = "alerts"
	streamDead   = "dead"
)

// Load reads and checks the configuration in the given files; later files
// extend and override earlier ones. The error is [config.Errors] with every
// mistake of every file, expressions included. Load opens no connection and
// writes nothing.
//
// It does not read certificates, keys, passwords and users, which are in files
// of their own: who asks a gateway something, or tests its rules, may not be
// allowed to. [LoadWithFiles] does.
func Load(paths []string, parts Parts) (*Config, error) {
	return load(paths, parts, totalOfStreams(), noFiles)
}

// LoadWithFiles is [Load] for a gateway that is to run: what is wrong with the
// certificates, keys, passwords and users that the configuration names is among
// its mistakes.
func LoadWithFiles(paths []string, parts Parts) (*Config, error) {
	return load(paths, parts, totalOfStreams(), allFiles)
}

// LoadToStart is [LoadWithFiles] for a gateway that starts, with nobody there
// perhaps: what is wrong with the files of destinations is only warned of. Such a
// destination waits as for a far side that is away, and the sensors do not.
func LoadToStart(paths []string, parts Parts) (*Config, error) {
	return load(paths, parts, totalOfStreams(), neededFiles)
}

// files says which files that the settings name are looked into.
type files int

const (
	noFiles     files = iota
	neededFiles       // all, but a gateway can do without those of destinations
	allFiles
)

// totalOfStreams bounds what the streams of this machine may take together; 0
// means that nothing does.
func totalOfStreams() config.Size {
	if strconv.IntSize == 32 {
		return 1e9 // the address space ends at about 1.6 GB of maps
	}
	return 0
}

// StorePath returns where a configuration has its store, as far as that can be
// told in spite of mistakes elsewhere; else it is empty.
func StorePath(paths []string) string {
	root, _ := config.LoadAll(paths...)
	if root == nil {
		return ""
	}
	l := &loader{root: root, c: &Config{}}
	var set storeSettings
	if s := root.Child("store"); s != nil {
		_ = s.Decode(&set)
	}
	l.store(set)
	return l.c.Store.Path
}

// settings is the shape of the file.
type settings struct {
	Gateway      string            `config:"gateway"`
	Store        storeSettings     `config:"store"`
	Streams      config.Named      `config:"streams"`
	MQTT         mqttSettings      `config:"mqtt"`
	HTTP         httpSettings      `config:"http"`
	Ingest       *config.Section   `config:"ingest"`
	Stop         config.Duration   `config:"shutdown_timeout,min=1s,max=10m"`
	Payloads     config.Named      `config:"payloads"`
	Tables       config.Named      `config:"tables"`
	Rules        []*config.Section `config:"rules"`
	Devices      config.Named      `config:"devices"`
	Destinations config.Named      `config:"destinations"`
}

type storeSettings struct {
	Path   config.Path     `config:"path"`
	Linger config.Duration `config:"linger,min=1ms,max=100ms"`
}

type streamSettings struct {
	Topics    []string        `config:"topics"`
	Max       config.Size     `config:"max,min=4MiB"`
	Share     config.Percent  `config:"share"`
	MaxEvents uint64          `config:"max_events"`
	Keep      config.Duration `config:"keep"`
	MaxAge    config.Duration `config:"max_age"`
	WhenFull  string          `config:"when_full,oneof=drop_oldest|block|reject"`
}

type httpSettings struct {
	Listen string `config:"listen"`
}

// loader collects what it finds in one Config and its mistakes.
type loader struct {
	root  *config.Section
	parts Parts
	total config.Size // bound on the sum of the streams' max; 0 means none
	files files
	errs  config.Errors
	c     *Config
}

func load(paths []string, parts Parts, total config.Size, files files) (*Config, error) {
	l := &loader{parts: parts, total: total, files: files, c: &Config{Parts: parts}}
	root, err := config.LoadAll(paths...)
	l.errs.Add(err)
	if root == nil {
		return nil, l.errs.Err()
	}
	if err := l.read(root); err != nil {
		return nil, err
	}
	return l.c, nil
}

// read checks the sections of a configuration.
func (l *loader) read(root *config.Section) error {
	l.root = root
	set := settings{
		Gateway: hostName(),
		Store:   storeSettings{Linger: config.Duration(storage.DefaultLinger)},
		MQTT:    defaultMQTT(),
		HTTP:    httpSettings{Listen: "127.0.0.1:8480"},
		Stop:    config.Duration(10 * time.Second),
	}
	l.errs.Add(root.Decode(&set))

	if !validName(set.Gateway) {
		l.errorf("gateway", "%q cannot name a gateway; %s", set.Gateway, nameRule)
	}
	l.c.Gateway, l.c.ShutdownTimeout = set.Gateway, set.Stop.Std()
	l.store(set.Store)
	l.mqtt(set.MQTT)
	l.c.HTTP.Listen = l.address("http.listen", set.HTTP.Listen)
	l.ingest(set.Ingest)
	l.streams(set.Streams)
	sections := l.ruleSections(set.Rules)
	l.rules(sections, rules.Options{Tables: l.tables(set.Tables), Codecs: l.payloads(set.Payloads)})
	l.bound()
	l.immediate(sections, l.devices(set.Devices))
	for _, s := range set.Destinations {
		l.destination(s)
	}
	return l.errs.Err()
}

func (l *loader) errorf(key, format string, args ...any) {
	l.errs.Add(l.root.Errorf(key, format, args...))
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

const nameRule = "use up to 64 letters, digits, dots, hyphens and underscores"

func validName(name string) bool { return nameForm.MatchString(name) }

// hostName is the name of this machine as far as it fits a gateway's name.
func hostName() string {
	name, err := os.Hostname()
	name = regexp.MustCompile(`[^A-Za-z0-9._-]+`).ReplaceAllString(name, "-")
	if err != nil || !validName(name) {
		return "holdfast"
	}
	return name
}

func (l *loader) store(s storeSettings) {
	l.c.Store.Linger = s.Linger.Std()
	state, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":") // systemd may list several
	home := os.Getenv("XDG_STATE_HOME")
	if user, err := os.UserHomeDir(); home == "" && err == nil {
		home = filepath.Join(user, ".local", "state")
	}
	switch {
	case s.Path != "":
		l.c.Store.Path = string(s.Path)
	case state != "":
		l.c.Store.Path = state
	case home != "":
		l.c.Store.Path = filepath.Join(home, "holdfast")
	default:
		l.errorf("store", "there is no home directory to keep the store in; name one with store: {path: …}")
	}
}

// address checks a host:port; "" and off mean none.
func (l *loader) address(key, text string) string { return l.addressIn(l.root, key, text) }

// addressIn checks a host:port that is at key in s.
func (l *loader) addressIn(s *config.Section, key, text string) string {
	if text == "" || text == "off" {
		return ""
	}
	_, port, err := net.SplitHostPort(text)
	if _, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil {
		l.errs.Add(s.Errorf(key, "%q is not an address; write host:port such as 127.0.0.1:1883, or off", text))
		return ""
	}
	return text
}

func loopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

func (l *loader) stream(name string) *StreamConfig {
	i := slices.IndexFunc(l.c.Streams, func(s StreamConfig) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &l.c.Streams[i]
}

// devices checks the settings of all devices with their drivers. It returns nil
// if there are mistakes.
func (l *loader) devices(sections config.Named) *devices.Set {
	if len(sections) == 0 {
		return new(devices.Set)
	}
	l.c.Devices = func() (*devices.Set, error) { return devices.Load(sections, l.parts.Drivers, l.parts.Buses) }
	l.c.DeviceSettings = l.root.Child("devices").Fingerprint()
	set, err := l.c.Devices()
	l.errs.Add(err)
	return set
}

// unknownStream completes a message about a stream that does not exist.
func (l *loader) unknownStream(name string) string {
	var known []string
	for _, s := range l.c.Streams {
		known = append(known, s.Name)
	}
	if near := config.Nearest(name, known); near != "" {
		return fmt.Sprintf("there is no stream %q, did you mean %q?", name, near)
	}
	return fmt.Sprintf("there is no stream %q; there are %s", name, strings.Join(known, ", "))
}

// filters checks the topic filters under the key topics of s.
func (l *loader) filters(s *config.Section, filters []string) {
	for i, f := range filters {
		if err := event.CheckFilter(f); err != nil {
			l.errs.Add(s.Errorf(fmt.Sprintf("topics.%d", i), "%v", err))
		}
	}
}

// bound checks that the streams fit the address space together.
func (l *loader) bound() {
	var sum int64
	for _, s := range l.c.Streams {
		most := s.Max
		if most == 0 {
			most = storage.ShareOn32Bit
		}
		sum += min(most, 1<<50)
	}
	if l.total > 0 && sum > int64(l.total) {
		l.errorf("streams", "the streams may take %v together; a 32-bit system has room for %v: lower max of some", config.Size(sum), l.total)
	}
}
