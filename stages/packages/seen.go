package packages

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/image/apk"
)

// compareWithSeen warns about indexes that are older than the last one that this computer saw: a
// mirror may be behind, or an attacker may withhold updates. The signature of such an index is
// valid.
func (r Request) compareWithSeen(repositories []*apk.Repository) error {
	if r.Seen == "" {
		return nil
	}
	for _, repository := range repositories {
		location := Locate(repository.URL, r.Arch, "APKINDEX.tar.gz")
		note := filepath.Join(r.Seen, fmt.Sprintf("%x", sha256.Sum256([]byte(location))))
		newest, before := repository.Index.Newest(), readSeen(note)
		if newest.Before(before) && r.Warn != nil {
			r.Warn(fmt.Sprintf("%s is older than the one that was read before: its newest package is from %s, and before there was one from %s; "+
				"the mirror may be behind, or its operator or the network may withhold updates; --repository takes another mirror",
				location, newest.Format(time.DateOnly), before.Format(time.DateOnly)))
		}
		if !newest.After(before) {
			continue
		}
		if err := os.MkdirAll(r.Seen, 0o755); err != nil {
			return fmt.Errorf("remember the package index: %w", err)
		}
		if err := durable.WriteFile(note, []byte(newest.Format(time.RFC3339)+"\n"), 0o644); err != nil && !errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("remember the package index: %w", err)
		}
	}
	return nil
}

// readSeen returns the time in a note, or the zero Time if the note is missing or damaged.
func readSeen(path string) time.Time {
	text, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}
	}
	seen, err := time.Parse(time.RFC3339, strings.TrimSpace(string(text)))
	if err != nil {
		return time.Time{}
	}
	return seen
}
