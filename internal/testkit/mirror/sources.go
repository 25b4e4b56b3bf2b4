package mirror

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A source is a Debian archive in the host's apt configuration.
type source struct{ uri, signedBy string }

// of returns a sources.list with the source's main archive of a Debian release.
func (s source) of(release string) string {
	options := ""
	if s.signedBy != "" {
		options = "[signed-by=" + s.signedBy + "] "
	}
	return "deb " + options + s.uri + " " + release + " main\n"
}

// debianSource returns Debian's archive, whose URI ends in "debian" on every mirror, from the
// sources in apt's configuration folder (sources.list(5), both formats).
func debianSource(dir string) (source, error) {
	names, _ := filepath.Glob(filepath.Join(dir, "sources.list.d", "*")) // the pattern is well formed
	for _, name := range append([]string{filepath.Join(dir, "sources.list")}, names...) {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // either format may be missing
		}
		var found []source
		switch path.Ext(name) {
		case ".sources":
			for stanza := range strings.SplitSeq(string(text), "\n\n") {
				found = append(found, ofStanza(stanza)...)
			}
		case ".list":
			for line := range strings.Lines(string(text)) {
				found = append(found, ofLine(line)...)
			}
		}
		for _, s := range found {
			if path.Base(strings.TrimSuffix(s.uri, "/")) == "debian" {
				return s, nil
			}
		}
	}
	return source{}, errors.New("there is no source of Debian in /etc/apt, from which another release could be taken: add one")
}

// ofStanza returns the sources in a stanza of a .sources file.
func ofStanza(stanza string) (found []source) {
	fields := map[string]string{}
	for line := range strings.Lines(stanza) {
		if key, value, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "#") {
			fields[strings.ToLower(key)] = strings.TrimSpace(value)
		}
	}
	if !slices.Contains(strings.Fields(fields["types"]), "deb") {
		return nil
	}
	for _, uri := range strings.Fields(fields["uris"]) {
		found = append(found, source{uri, fields["signed-by"]})
	}
	return found
}

// ofLine returns the source in a line of a .list file: deb [options] URI suite component…
func ofLine(line string) []source {
	rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
	if !ok {
		return nil
	}
	var s source
	if options, after, ok := strings.Cut(strings.TrimSpace(rest), "]"); ok && strings.HasPrefix(options, "[") {
		rest = after
		for _, option := range strings.Fields(options[1:]) {
			if value, ok := strings.CutPrefix(option, "signed-by="); ok {
				s.signedBy = value
			}
		}
	}
	if fields := strings.Fields(rest); len(fields) > 0 {
		s.uri = fields[0]
		return []source{s}
	}
	return nil
}
