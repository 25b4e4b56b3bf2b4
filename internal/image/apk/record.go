package apk

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// maxLine is the longest line of an index, database or .PKGINFO, in bytes. Packages with thousands
// of provides have lines of about 100 KiB.
const maxLine = 4 << 20

// setField stores the value of a line "key:value" of an index. It reports whether it knows the key.
// An unknown or malformed value makes the package unusable if the rest of the entry is valid, so
// that one bad package does not disable the repository; other faults are errors.
func (p *Package) setField(key byte, value string) (known bool, err error) {
	switch key {
	case 'C':
		p.Checksum, err = ParseChecksum(value)
	case 'P':
		p.Name, err = value, checkFileName(value)
	case 'V':
		p.Version, err = value, checkFileName(value)
		if err == nil && !ValidVersion(value) {
			p.markUnusable(fmt.Errorf("its version %q is malformed", value))
		}
	case 'A':
		p.Arch, err = value, checkFileName(value)
	case 'S':
		p.Size, err = parseSize(value)
	case 'I':
		p.InstalledSize, err = parseSize(value)
	case 'T':
		p.Description = value
	case 'U':
		p.URL = value
	case 'L':
		p.License = value
	case 'o':
		p.Origin = value
	case 'm':
		p.Maintainer = value
	case 't':
		var seconds int64
		if seconds, err = parseSize(value); seconds != 0 {
			p.BuildTime = time.Unix(seconds, 0).UTC()
		}
	case 'c':
		p.Commit = value
	case 'k':
		p.ProviderPriority, err = parsePriority(value)
	case 'q':
		p.ReplacesPriority, err = parsePriority(value)
	case 'D', 'p', 'i', 'r':
		p.addDeps(key, value)
	default:
		// Unknown lower-case keys may be ignored, unknown upper-case keys may not.
		if 'A' <= key && key <= 'Z' {
			p.markUnusable(fmt.Errorf("its index entry has a field %q that this program does not know", key))
		}
		return false, nil
	}
	if err != nil {
		return true, fmt.Errorf("field %c: %w", key, err)
	}
	return true, nil
}

// addDeps appends the dependencies of one line; .PKGINFO has a line for each.
func (p *Package) addDeps(key byte, value string) {
	list := map[byte]*[]Dep{'D': &p.Depends, 'p': &p.Provides, 'i': &p.InstallIf, 'r': &p.Replaces}[key]
	deps, err := ParseDeps(value)
	for _, d := range deps {
		if d.Tag != "" && err == nil {
			err = fmt.Errorf("dependency %q: only the world may name repository tags", d)
		}
	}
	switch {
	case err == nil:
		*list = append(*list, deps...)
	case key != 'i': // a malformed install_if is ignored
		p.markUnusable(err)
	}
}

func (p *Package) markUnusable(err error) {
	if p.unusable == nil {
		p.unusable = err
	}
}

// check returns an error if a required field is missing.
func (p *Package) check() error {
	switch {
	case p.Name == "":
		return fmt.Errorf("entry without a name (P:)")
	case p.Version == "":
		return fmt.Errorf("entry of %s without a version (V:)", p.Name)
	case p.Checksum == "":
		return fmt.Errorf("entry of %s without a checksum (C:)", p.ID())
	}
	return nil
}

// writeFields writes p as apk writes it to an index: the lines that setField reads, but for
// Replaces and ReplacesPriority, in apk's order.
func (p *Package) writeFields(w *strings.Builder) {
	line := func(key, value string) { w.WriteString(key + ":" + value + "\n") }
	optional := func(key, value string) {
		if value != "" {
			line(key, value)
		}
	}
	line("C", string(p.Checksum))
	line("P", p.Name)
	line("V", p.Version)
	optional("A", p.Arch)
	line("S", strconv.FormatInt(p.Size, 10))
	line("I", strconv.FormatInt(p.InstalledSize, 10))
	line("T", p.Description)
	line("U", p.URL)
	line("L", p.License)
	optional("o", p.Origin)
	optional("m", p.Maintainer)
	if !p.BuildTime.IsZero() {
		line("t", strconv.FormatInt(p.BuildTime.Unix(), 10))
	}
	optional("c", p.Commit)
	if p.ProviderPriority != 0 {
		line("k", strconv.Itoa(p.ProviderPriority))
	}
	optional("D", formatDeps(p.Depends))
	optional("p", formatDeps(p.Provides))
	optional("i", formatDeps(p.InstallIf))
}

// checkFileName returns an error for a string that must not become part of a file name in a
// repository or a database.
func checkFileName(s string) error {
	if s == "" || strings.HasPrefix(s, ".") || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c == '/' || c == 0x7f }) {
		return fmt.Errorf("%q is not a usable name", s)
	}
	return nil
}

func parseSize(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a number from 0 to 2^63-1", s)
	}
	return n, nil
}

func parsePriority(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%q is not a priority", s)
	}
	return int(n), nil
}

// lineError adds the line number to an error.
func lineError(n int, err error) error { return fmt.Errorf("line %d: %w", n, err) }

// eachLine calls fn for each line of r with its number, from 1.
func eachLine(r io.Reader, fn func(n int, line string) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	n := 0
	for s.Scan() {
		n++
		if err := fn(n, s.Text()); err != nil {
			return lineError(n, err)
		}
	}
	if err := s.Err(); err != nil {
		return lineError(n+1, err)
	}
	return nil
}

// splitField splits a line "key:value".
func splitField(line string) (key byte, value string, err error) {
	if len(line) < 2 || line[1] != ':' {
		return 0, "", fmt.Errorf("%.40q does not begin with a letter and a colon", line)
	}
	return line[0], line[2:], nil
}
