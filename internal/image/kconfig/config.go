package kconfig

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Config is the content of a .config: values by option, without "CONFIG_" in front. A value has
// its written form: y, m, a number, or a string in double quotes. Unset options are absent.
type Config map[string]string

const prefix = "CONFIG_"

// Parse reads the text of a .config or of a fragment of one. A line that is neither an assignment
// nor a comment is an error that names it. If an option occurs twice, the later line applies, as in
// the kernel.
func Parse(text []byte) (Config, error) {
	c := Config{}
	for i, raw := range bytes.Split(text, []byte("\n")) {
		line := strings.TrimSpace(string(raw))
		if name, ok := unset(line); ok {
			delete(c, name)
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || !strings.HasPrefix(name, prefix) || !isOption(name[len(prefix):]) {
			return nil, fmt.Errorf("kernel configuration line %d is not an assignment: %.60q", i+1, line)
		}
		if value == "n" {
			delete(c, name[len(prefix):])
			continue
		}
		c[name[len(prefix):]] = value
	}
	return c, nil
}

// Unset returns the options that a text disables with a "# CONFIG_X is not set" line, in order.
func Unset(text []byte) []string {
	var names []string
	for line := range strings.Lines(string(text)) {
		if name, ok := unset(strings.TrimSpace(line)); ok {
			names = append(names, name)
		}
	}
	return names
}

// unset returns the option of a "# CONFIG_X is not set" line.
func unset(line string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(line, "# "+prefix)
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(rest, " is not set")
	return name, ok && isOption(name)
}

func isOption(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != ""
}

// Names returns the options that are set, in alphabetical order.
func (c Config) Names() []string { return slices.Sorted(maps.Keys(c)) }
