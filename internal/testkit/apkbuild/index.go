package apkbuild

import (
	"fmt"
	"io"
	"strings"
)

// WriteIndex writes the APKINDEX.tar.gz of a repository with the entries, signed with key, or
// unsigned if key is nil. description is the repository's version, such as "v3.20.3-14-g0a1b2c3".
func WriteIndex(w io.Writer, key *Key, description string, entries []Entry) error {
	var index strings.Builder
	for i := range entries {
		if err := entries[i].writeLines(&index); err != nil {
			return fmt.Errorf("write package index: %s-%s: %w", entries[i].Name, entries[i].Version, err)
		}
		index.WriteByte('\n')
	}
	body, err := memberStream([]member{
		{"DESCRIPTION", 0o644, []byte(description)},
		{"APKINDEX", 0o644, []byte(index.String())},
	}, epoch, complete)
	if err != nil {
		return fmt.Errorf("write package index: %w", err)
	}
	var signature []byte
	if key != nil {
		if signature, err = key.sign(body); err != nil {
			return fmt.Errorf("write package index: %w", err)
		}
	}
	for _, stream := range [][]byte{signature, body} {
		if _, err := w.Write(stream); err != nil {
			return fmt.Errorf("write package index: %w", err)
		}
	}
	return nil
}

// writeLines writes the lines that an index and the database of installed packages have in common,
// in the order of apk-tools' apk_pkg_write_info.
func (e *Entry) writeLines(buf *strings.Builder) error {
	for _, text := range append(e.texts(), e.Checksum) {
		if strings.Contains(text, "\n") {
			return errLineBreak
		}
	}
	line := func(field, value string) {
		if value != "" {
			fmt.Fprintf(buf, "%s:%s\n", field, value)
		}
	}
	line("C", e.Checksum)
	line("P", e.Name)
	line("V", e.Version)
	line("A", e.Arch)
	fmt.Fprintf(buf, "S:%d\n", e.Size)
	fmt.Fprintf(buf, "I:%d\n", e.InstalledSize)
	line("T", e.Description)
	line("U", e.URL)
	line("L", e.License)
	line("o", e.origin())
	line("m", e.Maintainer)
	if t := e.buildTime().Unix(); t != 0 {
		fmt.Fprintf(buf, "t:%d\n", t)
	}
	line("c", e.Commit)
	if e.ProviderPriority != 0 {
		fmt.Fprintf(buf, "k:%d\n", e.ProviderPriority)
	}
	line("D", strings.Join(e.Depends, " "))
	line("p", strings.Join(e.Provides, " "))
	line("i", strings.Join(e.InstallIf, " "))
	return nil
}
