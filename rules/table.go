package rules

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Limits on a lookup table.
const (
	MaxTableBytes = 16 << 20
	maxColumns    = 1000
)

// Table is one version of a lookup table: rows by key. It is read-only.
type Table struct {
	Name    string
	Version string // digest of the content, in hexadecimal digits
	columns map[string]kind
	rows    map[string]map[string]any
}

// ParseTable reads a table from the content of a CSV or YAML file; the ending
// of the file's name tells which. The key column names the rows.
//
// CSV has the names of the columns in its first line. YAML is a list of
// mappings, or a mapping from keys to mappings; then the key column does not
// stand in the rows. A column of which every value is a number holds numbers,
// and one of only true and false holds truth values; others hold text. Empty
// values are absent.
func ParseTable(name, file, key string, content []byte) (*Table, error) {
	if len(content) > MaxTableBytes {
		return nil, fmt.Errorf("table %s: %s has %d bytes, more than %d", name, file, len(content), MaxTableBytes)
	}
	sum := sha256.Sum256(append([]byte(key+"\x00"+strings.ToLower(filepath.Ext(file))+"\x00"), content...))
	t := &Table{Name: name, Version: hex.EncodeToString(sum[:16]), columns: map[string]kind{}, rows: map[string]map[string]any{}}
	var err error
	if strings.EqualFold(filepath.Ext(file), ".csv") {
		err = t.readCSV(key, content)
	} else {
		err = t.readYAML(key, content)
	}
	if err != nil {
		return nil, fmt.Errorf("table %s: %s: %w", name, file, err)
	}
	return t, nil
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Columns returns the names of the columns, sorted.
func (t *Table) Columns() []string { return slices.Sorted(maps.Keys(t.columns)) }

func (t *Table) readCSV(key string, content []byte) error {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(content, []byte("\ufeff"))))
	r.TrimLeadingSpace = true
	names, err := r.Read()
	if errors.Is(err, io.EOF) {
		return errors.New("the file is empty; the first line names the columns")
	}
	if err != nil {
		return err
	}
	at := slices.Index(names, key)
	if at < 0 {
		return fmt.Errorf("there is no column %q; there are %s", key, strings.Join(names, ", "))
	}
	if len(names) > maxColumns {
		return fmt.Errorf("there are %d columns, more than %d", len(names), maxColumns)
	}
	var lines [][]string
	for {
		line, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		lines = append(lines, line)
	}
	for c, name := range names {
		t.columns[name] = columnKind(lines, c)
	}
	for n, line := range lines {
		row := map[string]any{}
		for c, name := range names {
			if v := strings.TrimSpace(line[c]); v != "" {
				row[name] = cellValue(v, t.columns[name])
			}
		}
		if err := t.put(strings.TrimSpace(line[at]), row, n+2); err != nil {
			return err
		}
	}
	return nil
}

func columnKind(lines [][]string, c int) kind {
	numbers, truths, any := true, true, false
	for _, line := range lines {
		v := strings.TrimSpace(line[c])
		if v == "" {
			continue
		}
		any = true
		n, err := strconv.ParseFloat(v, 64)
		numbers = numbers && err == nil && !math.IsInf(n, 0) && !math.IsNaN(n)
		truths = truths && (v == "true" || v == "false")
	}
	switch {
	case any && numbers:
		return number
	case any && truths:
		return truth
	}
	return text
}

func cellValue(v string, k kind) any {
	switch k {
	case number:
		n, _ := strconv.ParseFloat(v, 64)
		return n
	case truth:
		return v == "true"
	}
	return v
}

func (t *Table) put(key string, row map[string]any, line int) error {
	if key == "" {
		return fmt.Errorf("line %d has no key", line)
	}
	if _, twice := t.rows[key]; twice {
		return fmt.Errorf("line %d: the key %q is there twice", line, key)
	}
	t.rows[key] = row
	return nil
}

func (t *Table) readYAML(key string, content []byte) error {
	var root any
	if err := yaml.Unmarshal(content, &root); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	switch x := root.(type) {
	case []any:
		for i, item := range x {
			row, ok := item.(map[string]any)
			if !ok {
				return fmt.Errorf("item %d is not a mapping", i+1)
			}
			name, ok := toText(row[key])
			if !ok {
				return fmt.Errorf("item %d has no %s that could be a key", i+1, key)
			}
			if err := t.putRow(name, row, i+1); err != nil {
				return err
			}
		}
	case map[string]any:
		for i, name := range slices.Sorted(maps.Keys(x)) {
			row, ok := x[name].(map[string]any)
			if !ok {
				return fmt.Errorf("%q is not a mapping", name)
			}
			if err := t.putRow(name, row, i+1); err != nil {
				return err
			}
		}
	default:
		return errors.New("it is neither a list of mappings nor a mapping of them")
	}
	return nil
}

func (t *Table) putRow(key string, row map[string]any, item int) error {
	clean := map[string]any{}
	for name, v := range row {
		k := kindOfValue(v)
		switch {
		case v == nil:
			continue
		case k == number:
			v, _ = toNumber(v)
		case k != text && k != truth:
			return fmt.Errorf("%s of %q is neither a number nor text nor true or false", name, key)
		}
		if was, known := t.columns[name]; known && was != k {
			k = anything
		}
		t.columns[name] = k
		clean[name] = v
	}
	if len(t.columns) > maxColumns {
		return fmt.Errorf("there are more than %d columns", maxColumns)
	}
	return t.put(key, clean, item)
}

// lookup returns a value of the row of a key; nil if there is none.
func (t *Table) lookup(key, column string) any { return t.rows[key][column] }
