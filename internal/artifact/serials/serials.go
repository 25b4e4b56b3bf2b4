// Package serials stores the highest serial of the signed versions that a computer or a phone has
// accepted, to detect older versions. Serials are compared within a line: the versions that one key
// has signed for one machine, or for one repository of a registry.
package serials

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/strictjson"
)

// maxFile is the largest file, in bytes. A line needs about 90.
const maxFile = 4 << 20

// format is the version of the file.
const format = 1

// A Memory is a file with the highest serial of each line. It is replaced atomically. A file that
// cannot be read is an error, never an empty memory. The zero Memory stores nothing.
type Memory struct{ path string }

// At returns the memory in a file, which need not exist.
func At(path string) Memory { return Memory{path} }

// A Line is the versions whose serials are compared with each other.
type Line struct {
	Of  string // a machine's name, or a registry's HOST/REPOSITORY
	Key string // ID of the key that signs them
}

// content is the file's: serials by Line.Of and Line.Key.
type content struct {
	Format  int                         `json:"format"`
	Highest map[string]map[string]int64 `json:"highest"`
}

// A LowerError says that a version's serial is lower than an accepted one of its line.
type LowerError struct {
	Line
	Serial, Highest int64
}

func (e *LowerError) Error() string {
	return fmt.Sprintf("%s: its serial %d is lower than %d, the highest of key %.16s… that was accepted before: "+
		"this is an older version; --allow-downgrade accepts it", e.Of, e.Serial, e.Highest, e.Key)
}

// Highest returns the highest serial of the lines, or 0.
func (m Memory) Highest(lines ...Line) (highest int64, err error) {
	c, err := m.read()
	if err != nil {
		return 0, err
	}
	for _, l := range lines {
		highest = max(highest, c.Highest[l.Of][l.Key])
	}
	return highest, nil
}

// Check returns a *LowerError if a serial is lower than the highest of its line.
func (m Memory) Check(l Line, serial int64) error {
	highest, err := m.Highest(l)
	if err == nil && serial < highest {
		err = &LowerError{l, serial, highest}
	}
	return err
}

// Note stores a serial for each of the lines, unless a higher one is stored. It is on stable
// storage when Note returns.
func (m Memory) Note(serial int64, lines ...Line) error {
	if m.path == "" {
		return nil
	}
	if err := durable.MkdirAll(filepath.Dir(m.path), 0o755); err != nil {
		return err
	}
	lock, err := durable.WaitLock(context.Background(), filepath.Dir(m.path), durable.Exclusive, durable.LockOptions{Existing: true})
	if err != nil {
		return err
	}
	defer lock.Release()
	c, err := m.read()
	if err != nil {
		return err
	}
	changed := false
	for _, l := range lines {
		if c.Highest[l.Of][l.Key] >= serial {
			continue
		}
		if c.Highest[l.Of] == nil {
			c.Highest[l.Of] = map[string]int64{}
		}
		c.Highest[l.Of][l.Key], changed = serial, true
	}
	if !changed {
		return nil
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(m.path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("remember serial %d: %w", serial, err)
	}
	return nil
}

func (m Memory) read() (*content, error) {
	empty := &content{Format: format, Highest: map[string]map[string]int64{}}
	if m.path == "" {
		return empty, nil
	}
	text, err := bound.ReadFile(m.path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	c := &content{}
	if err == nil {
		err = decode(text, c)
	}
	if err != nil {
		return nil, fmt.Errorf("read the serials of signed versions in %s: %w: remove the file to start from nothing; "+
			"the next version of each machine is accepted then, whatever its serial", m.path, err)
	}
	return c, nil
}

func decode(text []byte, c *content) error {
	if err := strictjson.Unmarshal(text, c); err != nil {
		return err
	}
	if c.Format != format || c.Highest == nil {
		return fmt.Errorf("its format is %d, this program reads %d", c.Format, format)
	}
	for of, keys := range c.Highest {
		for key, serial := range keys {
			if serial < 1 {
				return fmt.Errorf("the serial of %.80q by key %.16q is %d", of, key, serial)
			}
		}
	}
	return nil
}
