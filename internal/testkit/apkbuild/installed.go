package apkbuild

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"path"
	"strings"
)

// Installed returns the package's stanza for /lib/apk/db/installed, with the empty line at its end.
// entry is the result of Write.
func (p *Package) Installed(entry Entry) (string, error) {
	files, err := withParents(p.Files)
	if err != nil {
		return "", fmt.Errorf("describe installed package %s: %w", p.Name, err)
	}
	var text strings.Builder
	if err := entry.writeLines(&text); err != nil {
		return "", fmt.Errorf("describe installed package %s: %w", p.Name, err)
	}
	if len(p.Replaces) > 0 {
		fmt.Fprintf(&text, "r:%s\n", strings.Join(p.Replaces, " "))
	}
	if p.ReplacesPriority != 0 {
		fmt.Fprintf(&text, "q:%d\n", p.ReplacesPriority)
	}
	byName := make(map[string]*File, len(files))
	inDir := map[string][]*File{}
	for i := range files {
		f := &files[i]
		byName[f.Name] = f
		if f.Type != Directory {
			inDir[path.Dir(f.Name)] = append(inDir[path.Dir(f.Name)], f)
		}
	}
	writeDir := func(name string, dir *File) {
		fmt.Fprintf(&text, "F:%s\n", name)
		if dir.Mode != 0o755 || dir.UID != 0 || dir.GID != 0 {
			fmt.Fprintf(&text, "M:%d:%d:%o\n", dir.UID, dir.GID, dir.Mode)
		}
		for _, f := range inDir[dir.Name] {
			fmt.Fprintf(&text, "R:%s\n", path.Base(f.Name))
			if f.Mode != 0o644 || f.UID != 0 || f.GID != 0 {
				fmt.Fprintf(&text, "a:%d:%d:%o\n", f.UID, f.GID, f.Mode)
			}
			if sum := f.installedChecksum(byName); sum != "" {
				fmt.Fprintf(&text, "Z:%s\n", sum)
			}
		}
	}
	if len(inDir["."]) > 0 {
		writeDir("", &File{Name: ".", Mode: 0o755})
	}
	for i := range files {
		if files[i].Type == Directory {
			writeDir(files[i].Name, &files[i])
		}
	}
	text.WriteByte('\n')
	return text.String(), nil
}

// installedChecksum returns the "Z:" value of a file. A hard link has the value of its target, a
// device has none.
func (f *File) installedChecksum(byName map[string]*File) string {
	var content []byte
	switch f.Type {
	case Regular:
		content = f.Data
	case Symlink:
		content = []byte(f.Target)
	case HardLink:
		if target := byName[f.Target]; target != nil && target.Type != HardLink {
			return target.installedChecksum(byName)
		}
		return ""
	default:
		return ""
	}
	sum := sha1.Sum(content)
	return "Q1" + base64.StdEncoding.EncodeToString(sum[:])
}
