package apkbuild

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Info is the metadata of a package: its .PKGINFO without the fields that follow from its content.
// Dependencies are written as in an APKBUILD: "so:libc.so.6", "postgresql>=15", "!conflicting".
type Info struct {
	Name        string
	Version     string // such as "15.13-r0"
	Arch        string // Alpine's name: "aarch64", "x86_64", "noarch"
	Description string
	URL         string
	License     string // SPDX
	Origin      string // the source package; Name when empty
	Maintainer  string
	Packager    string
	Commit      string
	BuildTime   time.Time // to the second; zero is Unix time 0

	Depends          []string
	Provides         []string
	Replaces         []string
	InstallIf        []string
	Triggers         []string // directory globs for the .trigger script
	ProviderPriority int      // 0: none
	ReplacesPriority int      // 0: none
}

// A Package is the input of Write for an .apk file.
type Package struct {
	Info
	// Scripts are indexed by name: ".pre-install", ".post-install", ".pre-upgrade",
	// ".post-upgrade", ".pre-deinstall", ".post-deinstall", ".trigger".
	Scripts map[string][]byte
	// Files are in any order. Write adds missing parent directories, with mode 0755 and owner root.
	Files []File
}

// An Entry is a package's entry in an index.
type Entry struct {
	Info
	Checksum      string // "Q1" and the base64 of the control stream's SHA-1
	Size          int64  // bytes of the .apk file
	InstalledSize int64  // bytes of its files and of link targets
}

// Filename returns the package's file name in a repository.
func (e Entry) Filename() string { return e.Name + "-" + e.Version + ".apk" }

// Write writes the .apk file, signed with key, or unsigned if key is nil, and returns its index
// entry. It keeps the package's data in memory meanwhile.
func (p *Package) Write(w io.Writer, key *Key) (Entry, error) {
	entry, err := p.write(w, key)
	if err != nil {
		return Entry{}, fmt.Errorf("write package %s-%s: %w", p.Name, p.Version, err)
	}
	return entry, nil
}

func (p *Package) write(w io.Writer, key *Key) (Entry, error) {
	if err := p.check(); err != nil {
		return Entry{}, err
	}
	data, installed, err := dataStream(p.Files)
	if err != nil {
		return Entry{}, err
	}
	control, err := p.controlStream(data, installed)
	if err != nil {
		return Entry{}, err
	}
	var signature []byte
	if key != nil {
		if signature, err = key.sign(control); err != nil {
			return Entry{}, err
		}
	}
	sum := sha1.Sum(control)
	entry := Entry{
		Info:          p.Info,
		Checksum:      "Q1" + base64.StdEncoding.EncodeToString(sum[:]),
		Size:          int64(len(signature) + len(control) + len(data)),
		InstalledSize: installed,
	}
	for _, stream := range [][]byte{signature, control, data} {
		if _, err := w.Write(stream); err != nil {
			return Entry{}, err
		}
	}
	return entry, nil
}

func (p *Package) check() error {
	for _, required := range []struct{ field, value string }{
		{"name", p.Name}, {"version", p.Version}, {"architecture", p.Arch},
	} {
		if required.value == "" {
			return fmt.Errorf("it has no %s", required.field)
		}
		if strings.ContainsAny(required.value, " \t\r\n/") {
			return fmt.Errorf("%s %q has a space or a slash", required.field, required.value)
		}
	}
	for name := range p.Scripts {
		if !slices.Contains(scriptNames, name) {
			return fmt.Errorf("%q is not the name of a script (known: %s)", name, strings.Join(scriptNames, " "))
		}
	}
	return nil
}

// scriptNames lists the scripts that apk-tools supports, in abuild's order.
var scriptNames = []string{
	".pre-install", ".post-install", ".pre-upgrade", ".post-upgrade",
	".pre-deinstall", ".post-deinstall", ".trigger",
}

func (p *Package) controlStream(data []byte, installed int64) ([]byte, error) {
	info, err := p.pkginfo(sha256.Sum256(data), installed)
	if err != nil {
		return nil, err
	}
	members := []member{{".PKGINFO", 0o644, info}}
	for _, name := range scriptNames {
		if script, ok := p.Scripts[name]; ok {
			members = append(members, member{name, 0o755, script})
		}
	}
	return memberStream(members, p.buildTime(), cut)
}

func (i *Info) buildTime() time.Time {
	if i.BuildTime.IsZero() {
		return epoch
	}
	return i.BuildTime.Truncate(time.Second)
}

func (i *Info) origin() string {
	if i.Origin == "" {
		return i.Name
	}
	return i.Origin
}

// errLineBreak is the error for values that would begin another line.
var errLineBreak = errors.New("a line break in a package's description of itself")

// pkginfo returns the .PKGINFO file: "key = value" lines, with a line for each value of a list.
func (p *Package) pkginfo(datahash [sha256.Size]byte, installed int64) ([]byte, error) {
	var buf bytes.Buffer
	line := func(key string, values ...string) {
		for _, v := range values {
			if v != "" {
				fmt.Fprintf(&buf, "%s = %s\n", key, v)
			}
		}
	}
	number := func(key string, n int64) {
		if n != 0 {
			fmt.Fprintf(&buf, "%s = %d\n", key, n)
		}
	}
	lines := 0
	for _, text := range p.texts() {
		lines += strings.Count(text, "\n")
	}
	if lines > 0 {
		return nil, errLineBreak
	}
	line("pkgname", p.Name)
	line("pkgver", p.Version)
	line("pkgdesc", p.Description)
	line("url", p.URL)
	number("builddate", p.buildTime().Unix())
	line("packager", p.Packager)
	fmt.Fprintf(&buf, "size = %d\n", installed)
	line("arch", p.Arch)
	line("origin", p.origin())
	line("commit", p.Commit)
	line("maintainer", p.Maintainer)
	number("replaces_priority", int64(p.ReplacesPriority))
	number("provider_priority", int64(p.ProviderPriority))
	line("license", p.License)
	line("replaces", p.Replaces...)
	line("depend", p.Depends...)
	line("provides", p.Provides...)
	line("install_if", strings.Join(p.InstallIf, " "))
	line("triggers", strings.Join(p.Triggers, " "))
	line("datahash", hex.EncodeToString(datahash[:]))
	return buf.Bytes(), nil
}

// texts returns all values that are on lines of .PKGINFO and of an index.
func (i *Info) texts() []string {
	return slices.Concat([]string{
		i.Name, i.Version, i.Arch, i.Description, i.URL, i.License, i.Origin,
		i.Maintainer, i.Packager, i.Commit,
	}, i.Depends, i.Provides, i.Replaces, i.InstallIf, i.Triggers)
}
