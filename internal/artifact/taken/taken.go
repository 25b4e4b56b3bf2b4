// Package taken stores which results of a build came from remote caches, and which keys had signed
// them. The list is in the artifact's folder but not part of the artifact, whose bytes do not
// depend on the use of caches. The verbs that sign or publish an artifact, and so vouch for it,
// check the list first.
package taken

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/durable"
)

// A Result is a stage's result that came from a remote cache.
type Result struct {
	Stage  string `json:"stage"`
	Remote string `json:"remote"`           // the remote cache, or the file, that had it
	Signer string `json:"signer,omitempty"` // ID of the key that had signed it; empty: no signature was required
}

// Write writes the list beside the artifact in dir, or removes it if it is empty.
func Write(dir string, list []Result) error {
	path := filepath.Join(dir, artifact.TakenFile)
	if len(list) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the list of what was taken from caches: %w", err)
		}
		return nil
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	if err := durable.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("write the list of what was taken from caches: %w", err)
	}
	return nil
}

// maxFile is the largest list, in bytes. A build has a dozen stages.
const maxFile = 1 << 20

// Load reads the list of the artifact in dir. A missing list is empty.
func Load(dir string) ([]Result, error) {
	path := filepath.Join(dir, artifact.TakenFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("it has %d bytes", info.Size())
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	var list []Result
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return list, nil
}

// An UnsignedError says that parts of an artifact came from remote caches without a signature.
type UnsignedError struct {
	Dir     string
	Results []Result // the unsigned ones
}

func (e *UnsignedError) Error() string {
	var parts []string
	for _, r := range e.Results {
		parts = append(parts, fmt.Sprintf("%s from %s", r.Stage, r.Remote))
	}
	return fmt.Sprintf("%s: parts of it were taken from remote caches without a signature: %s; build with --cache-key, or without the cache (--no-cache), "+
		"or pass --allow-unsigned-cache to sign results of that cache anyway", e.Dir, strings.Join(parts, ", "))
}

// Check returns an *UnsignedError if parts of the artifact in dir were taken unsigned.
func Check(dir string) error {
	list, err := Load(dir)
	if err != nil {
		return err
	}
	var unsigned []Result
	for _, r := range list {
		if r.Signer == "" {
			unsigned = append(unsigned, r)
		}
	}
	if len(unsigned) > 0 {
		return &UnsignedError{Dir: dir, Results: unsigned}
	}
	return nil
}
