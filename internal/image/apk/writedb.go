package apk

import (
	"archive/tar"
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"
)

// formatInstalled returns the content of lib/apk/db/installed, packages sorted by name.
func (db *database) formatInstalled() []byte {
	sorted := slices.Clone(db.packages)
	slices.SortStableFunc(sorted, func(a, b *installedPackage) int { return compareForDisplay(a.Package, b.Package) })
	var w strings.Builder
	for _, p := range sorted {
		p.writeFields(&w)
		p.writeInstalled(&w, db)
		w.WriteByte('\n')
	}
	return []byte(w.String())
}

// writeInstalled writes the lines that only the database has.
func (p *installedPackage) writeInstalled(w *strings.Builder, db *database) {
	line := func(key, value string) { w.WriteString(key + ":" + value + "\n") }
	optional := func(key, value string) {
		if value != "" {
			line(key, value)
		}
	}
	optional("r", formatDeps(p.Replaces))
	if p.ReplacesPriority != 0 {
		line("q", strconv.Itoa(p.ReplacesPriority))
	}
	optional("s", p.pinned)
	optional("f", p.flags)
	for _, d := range p.dirs {
		line("F", d.path)
		if d.acl != defaultDirACL {
			line("M", d.acl.String())
		}
		for _, f := range d.files {
			if db.files[f.path()] != f {
				continue // another package has taken it over
			}
			line("R", f.name)
			if f.acl != defaultFileACL {
				line("a", f.acl.String())
			}
			optional("Z", string(f.checksum))
		}
	}
}

// formatTriggers returns the content of lib/apk/db/triggers, in the order of installation.
func (db *database) formatTriggers() []byte {
	var w bytes.Buffer
	for _, p := range db.packages {
		if len(p.triggers) > 0 {
			w.WriteString(string(p.Checksum) + " " + strings.Join(p.triggers, " ") + "\n")
		}
	}
	return w.Bytes()
}

// formatScripts returns the content of lib/apk/db/scripts.tar, in the order of installation.
func (db *database) formatScripts() ([]byte, error) {
	var w bytes.Buffer
	tw := tar.NewWriter(&w)
	for _, p := range db.packages {
		for _, kind := range scriptTypes {
			i := slices.IndexFunc(p.scripts, func(s Script) bool { return s.Type == kind })
			if i < 0 {
				continue
			}
			body := p.scripts[i].Body
			h := &tar.Header{
				Typeflag: tar.TypeReg,
				Name:     p.ID() + "." + string(p.Checksum) + "." + kind,
				Mode:     0o755,
				Size:     int64(len(body)),
				ModTime:  time.Unix(0, 0),
			}
			if !p.BuildTime.IsZero() {
				h.ModTime = p.BuildTime
			}
			if err := tw.WriteHeader(h); err != nil {
				return nil, err
			}
			if _, err := tw.Write(body); err != nil {
				return nil, err
			}
		}
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	return w.Bytes(), nil
}

// formatWorld returns the content of etc/apk/world: sorted, one entry per line.
func formatWorld(world []Dep) []byte {
	sorted := slices.Clone(world)
	slices.SortStableFunc(sorted, func(a, b Dep) int {
		return compareForDisplay(&Package{Name: a.Name}, &Package{Name: b.Name})
	})
	var w bytes.Buffer
	for _, d := range sorted {
		w.WriteString(d.String() + "\n")
	}
	return w.Bytes()
}
