package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/gateway/config"
	"holdfast/rules"
)

// TableConfig is a lookup table.
type TableConfig struct {
	Name string
	File string // CSV or YAML
	Key  string // its key column

	content *tableContent // as it was loaded
	table   *rules.Table
}

// tableSettings are the keys of a table.
type tableSettings struct {
	File config.Path `config:"file,required"`
	Key  string      `config:"key,required"`
}

// tables reads the lookup tables.
func (l *loader) tables(sections config.Named) (all []*rules.Table) {
	for _, s := range sections {
		var set tableSettings
		if err := s.Decode(&set); err != nil {
			l.errs.Add(err)
			continue
		}
		if !validName(s.Name()) {
			l.errs.Add(s.Errorf("", "%q cannot name a table; %s", s.Name(), nameRule))
			continue
		}
		c := TableConfig{Name: s.Name(), File: string(set.File), Key: set.Key}
		var err error
		if c.content, c.table, err = c.read(); err != nil {
			l.errs.Add(s.Errorf("file", "%v", err))
			continue
		}
		all = append(all, c.table)
		l.c.Tables = append(l.c.Tables, c)
	}
	return all
}

// tableContent is a version of a table as it is kept: what it takes to make it
// again.
type tableContent struct {
	Name    string `json:"name"`
	File    string `json:"file"`
	Key     string `json:"key"`
	Content []byte `json:"content"`
}

func (c *tableContent) table() (*rules.Table, error) {
	return rules.ParseTable(c.Name, c.File, c.Key, c.Content)
}

func (c *TableConfig) read() (*tableContent, *rules.Table, error) {
	f, err := os.Open(c.File)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, rules.MaxTableBytes+1))
	if err != nil {
		return nil, nil, err
	}
	content := &tableContent{c.Name, filepath.Base(c.File), c.Key, b}
	t, err := content.table()
	return content, t, err
}

// tableVersions keeps the versions of the lookup tables that a second run of
// the rules needs, in a directory beside the checkpoints.
type tableVersions struct {
	dir  string
	used map[string]bool // since the newest checkpoint, and in it
	old  map[string]bool // between that and the one before
}

// openTableVersions finds the versions in a directory. Which of them the newest
// checkpoint needs is not known yet, so all stay until there are two newer ones.
func openTableVersions(dir string) (tableVersions, error) {
	v := tableVersions{dir: dir, used: map[string]bool{}, old: map[string]bool{}}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, e := range entries {
		v.used[strings.TrimSuffix(e.Name(), ".json")] = true
	}
	return v, err
}

func (p *processor) openTables(checkpoints string) {
	var err error
	p.tables, err = openTableVersions(filepath.Join(checkpoints, p.stream.Name()+".tables"))
	if err != nil {
		p.logger.Warn("the versions of lookup tables cannot be read", "err", err)
	}
	for _, c := range p.sources {
		if err := p.tables.store(c.content, c.table.Version); err != nil {
			p.logger.Warn("a second run of the rules may come to other results", "err", err)
		}
	}
}

func (v *tableVersions) path(version string) string { return filepath.Join(v.dir, version+".json") }

// store keeps a version; it is on disk at return.
func (v *tableVersions) store(c *tableContent, version string) error {
	v.used[version] = true
	if _, err := os.Stat(v.path(version)); err == nil {
		return nil
	}
	b, err := json.Marshal(c)
	if err == nil {
		err = os.MkdirAll(v.dir, 0o750)
	}
	if err == nil {
		err = writeSynced(v.path(version), b)
	}
	if err != nil {
		return fmt.Errorf("keep a version of the table %s: %w", c.Name, err)
	}
	return nil
}

// forget removes the versions that neither of the two newest checkpoints, nor
// anything since, needs; inForce are those of the newest.
func (v *tableVersions) forget(inForce map[string]string) {
	for version := range v.old {
		if !v.used[version] {
			_ = os.Remove(v.path(version)) // the next time, if not now
		}
	}
	v.old, v.used = v.used, map[string]bool{}
	for _, version := range inForce {
		v.used[version] = true
	}
}

// load makes a version again.
func (v *tableVersions) load(version string) (*rules.Table, error) {
	b, err := os.ReadFile(v.path(version))
	if err != nil {
		return nil, err
	}
	var c tableContent
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, err
	}
	t, err := c.table()
	if err == nil && t.Version != version {
		err = errors.New("its content has changed")
	}
	return t, err
}

// restoreTables gives the rules the versions that a checkpoint names.
func (p *processor) restoreTables(versions map[string]string) {
	now := p.engine.Tables()
	for name, version := range versions {
		if now[name] != "" && now[name] != version {
			p.setTable(name, version)
		}
	}
}

// setTable gives the rules a version of the log. Without it the second run goes
// on with the one at hand.
func (p *processor) setTable(name, version string) {
	if _, known := p.engine.Tables()[name]; !known {
		return // no rule looks it up any more
	}
	t, err := p.tables.load(version)
	if err != nil {
		p.logger.Warn("a version of a lookup table is gone; rules may come to other results in a second run", "table", name, "err", err)
		return
	}
	p.engine.SetTable(t)
}

// followTables goes over to the versions that the configuration came with.
func (p *processor) followTables() error {
	for _, c := range p.sources {
		if err := p.changeTable(c.content, c.table); err != nil {
			return err
		}
	}
	return nil
}

// changeTable gives the rules another version, as a logged input.
func (p *processor) changeTable(content *tableContent, t *rules.Table) error {
	if err := p.tables.store(content, t.Version); err != nil {
		p.logger.Warn("the rules go on with the version of the table they have", "table", t.Name, "err", err)
		return nil
	}
	if !p.engine.SetTable(t) {
		return nil
	}
	p.logger.Info("a lookup table has a new version", "table", t.Name, "rows", t.Len())
	p.result.Reset()
	in := p.input(p.log.Now())
	in.Table, in.Version = t.Name, t.Version
	return p.logInput(in)
}

// watchEvery is how often the files of lookup tables are looked at.
const watchEvery = 2 * time.Second

// watchTables gives the rules new versions of their lookup tables when the
// files change, until ctx ends. A file with mistakes changes nothing.
func (g *Gateway) watchTables(ctx context.Context, tables []TableConfig, processors []*processor) {
	type stamp struct {
		at   time.Time
		size int64
	}
	look := func(c *TableConfig) stamp {
		info, err := os.Stat(c.File)
		if err != nil {
			return stamp{}
		}
		return stamp{info.ModTime(), info.Size()}
	}
	// The first look finds what has changed since the configuration was loaded.
	seen := make([]stamp, len(tables))
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i := range tables {
			now := look(&tables[i])
			if now == seen[i] || now == (stamp{}) {
				continue
			}
			seen[i] = now
			content, t, err := tables[i].read()
			if err != nil {
				g.logger.Warn("a lookup table has mistakes; the rules go on with the version they have", "err", err)
				continue
			}
			for _, p := range processors {
				if err := p.asks.put(ctx, func() error { return p.changeTable(content, t) }); err != nil && ctx.Err() == nil {
					g.logger.Warn("a lookup table could not be changed", "table", t.Name, "err", err)
				}
			}
		}
	}
}
