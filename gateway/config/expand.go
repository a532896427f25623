package config

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// maxSecretBytes bounds a file named by ${file:PATH}.
const maxSecretBytes = 64 << 10

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces the variables in a scalar.
func (d *decoder) expand(n *node, secret bool) (text string, ok bool) {
	if !strings.Contains(n.value, "${") {
		return n.value, true
	}
	var b strings.Builder
	ok = true
	for at := 0; at < len(n.value); {
		rest := n.value[at:]
		switch {
		case strings.HasPrefix(rest, "$${"):
			b.WriteString("${")
			at += 3
		case strings.HasPrefix(rest, "${"):
			end := strings.IndexByte(rest, '}')
			if end < 0 {
				d.within(n, secret, at, len(n.value), "${ without its }; write $${ for a plain ${")
				return "", false
			}
			value, problem := lookup(n.file, rest[2:end], secret)
			if problem != "" {
				d.within(n, secret, at, at+end+1, "%s", problem)
				ok = false
			}
			b.WriteString(value)
			at += end + 1
		default:
			b.WriteByte(rest[0])
			at++
		}
	}
	return b.String(), ok
}

func lookup(f *file, name string, secret bool) (value, problem string) {
	if path, isFile := strings.CutPrefix(name, "file:"); isFile {
		if !secret {
			return "", "${file:…} is for passwords, tokens and other secrets only"
		}
		b, err := readSecret(f.path(path))
		if err != nil {
			return "", "cannot read the secret: " + err.Error()
		}
		value = strings.TrimRight(string(b), "\r\n")
		if value == "" {
			return "", "there is no secret in " + f.path(path)
		}
		return value, ""
	}
	if !variableName.MatchString(name) {
		return "", "${" + name + "} does not name an environment variable; write $${ for a plain ${"
	}
	value, set := os.LookupEnv(name)
	if !set {
		return "", "the environment variable " + name + " is not set"
	}
	return value, ""
}

func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err == nil && len(b) > maxSecretBytes {
		err = fmt.Errorf("%s has more than %v", path, Size(maxSecretBytes))
	}
	return b, err
}

// within reports a mistake at bytes of a scalar. Of a secret it shows nothing
// but those bytes.
func (d *decoder) within(n *node, secret bool, from, end int, format string, args ...any) {
	e := n.errorWithin(from, end, format, args...)
	if secret {
		e.Source = mask(e.Source, n, e)
	}
	d.errs = append(d.errs, e)
}

// mask blots out the part of a source line that belongs to the scalar n,
// except for what e underlines.
func mask(line string, n *node, e *Error) string {
	text := []rune(line)
	from := 0
	if e.Pos.Line == n.line {
		from = n.col - 1
	}
	for i := from; i < len(text); i++ {
		if !blank(text[i]) && (i < e.Pos.Col-1 || i >= e.Pos.Col-1+e.Width) {
			text[i] = '*'
		}
	}
	return string(text)
}
