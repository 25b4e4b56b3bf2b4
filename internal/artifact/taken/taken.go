// Package taken is the list, beside an artifact, of what its build took from caches that others
// fill, and who had signed it there. The list is not part of the artifact: two builders who make
// the same bytes, one of whom found half of them in a cache, have the same artifact. To sign
// or publish an artifact is to vouch for it, so these verbs look at the list first.
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

// A Result is what one stage of a build was taken from.
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

// maxFile bounds the list, in bytes. A build has a dozen stages.
const maxFile = 1 << 20

// Load reads the list beside the artifact in dir. Without one nothing was taken.
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

// An UnsignedError is an artifact with parts that were taken, without a signature, from caches that
// others fill.
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
