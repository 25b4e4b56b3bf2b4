//go:build linux

package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/durable"
)

// Files of a data directory.
const (
	autoConf  = "postgresql.auto.conf" // ALTER SYSTEM writes it
	goodConf  = autoConf + ".good"     // a copy of the last version with which the server became ready
	asideConf = autoConf + ".aside-"   // and a number: a version with which it did not
)

const (
	// failedStarts is the number of consecutive failed starts after which the server is started
	// once without the settings that changed since it was last ready. If that start fails too, the
	// settings are not the reason and are restored.
	failedStarts = 3
	// maxConf is the largest file with settings, in bytes. A file with all settings of PostgreSQL
	// has less than 64 KiB.
	maxConf = 1 << 20
	// StartsFile is in memory: starts are counted from boot.
	StartsFile = "/run/sov-postgres-starts"
)

// Settings manages the settings that ALTER SYSTEM changed in a cluster, and the record of its
// starts.
type Settings struct {
	Data   string // the data directory
	Starts string // the record's path, such as StartsFile
}

// starts is the record. The zero value means that the server is ready or was not started yet.
type starts struct {
	Failed int    `json:"failed"`           // starts since the server was ready
	Trying string `json:"trying,omitempty"` // the file whose settings the current start leaves out
	Asked  bool   `json:"asked,omitempty"`  // the user requested a start without them
}

func (s Settings) load() (n starts, err error) {
	text, err := os.ReadFile(s.Starts)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	return n, err
}

func (s Settings) store(n starts) error {
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return durable.WriteFile(s.Starts, text, 0o600, durable.NoSync()) // it is in memory
}

// Ask makes the next start put aside the settings that changed since the server was last ready or,
// if none did, all settings.
func (s Settings) Ask() error {
	if err := s.store(starts{Failed: failedStarts, Asked: true}); err != nil {
		return fmt.Errorf("put settings of ALTER SYSTEM aside: %w", err)
	}
	return nil
}

// beforeStart is called before each start of the server. It reports what it did to output.
func (s Settings) beforeStart(output io.Writer) error {
	n, err := s.load()
	if err != nil {
		return fmt.Errorf("count the server's starts: %w", err)
	}
	switch n.Failed % (failedStarts + 1) {
	case failedStarts:
		if n.Trying, err = s.putAside(n.Asked, output); err != nil {
			return fmt.Errorf("put settings of ALTER SYSTEM aside: %w", err)
		}
	case 0:
		if err := s.putBack(n, output); err != nil {
			return fmt.Errorf("put settings of ALTER SYSTEM back: %w", err)
		}
		n.Trying = ""
	}
	n.Failed, n.Asked = n.Failed+1, false
	return s.store(n)
}

// putAside restores the settings with which the server was last ready, and returns the name of the
// file with the newer ones, or "" if there are none.
func (s Settings) putAside(asked bool, output io.Writer) (name string, err error) {
	now, info, err := s.read(autoConf)
	if err != nil || info == nil {
		return "", err
	}
	good, _, err := s.read(goodConf)
	if err != nil {
		return "", err
	}
	if asked && bytes.Equal(now, good) {
		good = nil
	}
	changed := differences(now, good)
	if len(changed) == 0 && !damaged(now) {
		return "", nil
	}
	if name, err = s.freeName(); err != nil {
		return "", err
	}
	if err := durable.Rename(s.path(autoConf), s.path(name)); err != nil {
		return "", err
	}
	// After a power cut here the file does not exist, which the server treats as empty.
	if err := s.write(autoConf, good, info); err != nil {
		return "", err
	}
	why := fmt.Sprintf("the server has failed to start %d times in a row, and its settings have changed since it was ready last", failedStarts)
	if asked {
		why = "asked to"
	}
	fmt.Fprintf(output, "WARNING: %s: it is started without these settings of ALTER SYSTEM: %s; they are kept in %s\n",
		why, settingsText(changed), s.path(name))
	return name, nil
}

// putBack undoes putAside if the server did not become ready without the settings either.
func (s Settings) putBack(n starts, output io.Writer) error {
	if n.Trying == "" {
		return nil
	}
	err := durable.Rename(s.path(n.Trying), s.path(autoConf))
	if errors.Is(err, fs.ErrNotExist) { // the user has removed it
		return nil
	}
	if err == nil {
		fmt.Fprintln(output, "the server does not start without the settings of ALTER SYSTEM either: they are in use again")
	}
	return err
}

// Settled records that the server became ready with its current settings.
func (s Settings) Settled(output io.Writer) error {
	n, err := s.load()
	if err == nil {
		err = s.keepGood()
	}
	if err == nil && n.Trying != "" {
		fmt.Fprintf(output, "WARNING: the server is ready without the settings in %s: make those that are right again with ALTER SYSTEM\n", s.path(n.Trying))
	}
	if err == nil {
		err = s.store(starts{})
	}
	if err != nil {
		return fmt.Errorf("record the settings of ALTER SYSTEM: %w", err)
	}
	return nil
}

func (s Settings) keepGood() error {
	now, info, err := s.read(autoConf)
	if err != nil {
		return err
	}
	good, had, err := s.read(goodConf)
	if err != nil || had != nil && bytes.Equal(now, good) {
		return err
	}
	return s.write(goodConf, now, info)
}

// Aside lists the files with settings that were put aside and not set again, with the names of
// these settings. It leaves out the values, which may be secret.
func (s Settings) Aside() ([]guestapi.SettingsAside, error) {
	names, err := s.asideNames()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	now, _, err := s.read(autoConf)
	if err != nil {
		return nil, err
	}
	var list []guestapi.SettingsAside
	for _, name := range names {
		text, _, err := s.read(name)
		if err != nil {
			return nil, err
		}
		var missing []string
		for setting, value := range parseConf(text) {
			if parseConf(now)[setting] != value {
				missing = append(missing, setting)
			}
		}
		if slices.Sort(missing); len(missing) > 0 || damaged(text) {
			list = append(list, guestapi.SettingsAside{File: s.path(name), Settings: missing})
		}
	}
	return list, nil
}

// Ignored returns the names of the ALTER SYSTEM settings that are in fixed, the settings on the
// server's command line.
func (s Settings) Ignored(fixed []string) (names []string, err error) {
	now, _, err := s.read(autoConf)
	for name := range parseConf(now) {
		if slices.Contains(fixed, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, err
}

// Forget removes the files with settings that were put aside and returns their paths.
func (s Settings) Forget() (removed []string, err error) {
	names, err := s.asideNames()
	for _, name := range names {
		if err := os.Remove(s.path(name)); err != nil {
			return removed, fmt.Errorf("remove settings that were put aside: %w", err)
		}
		removed = append(removed, s.path(name))
	}
	return removed, err
}

func (s Settings) path(name string) string { return filepath.Join(s.Data, name) }

// asideNames returns the names of the files that were put aside, the oldest first.
func (s Settings) asideNames() ([]string, error) {
	entries, err := os.ReadDir(s.Data)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if number(e.Name()) > 0 {
			names = append(names, e.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int { return number(a) - number(b) })
	return names, nil
}

// number returns the number in the name of a file that was put aside, or 0.
func number(name string) int {
	text, ok := strings.CutPrefix(name, asideConf)
	n, err := strconv.Atoi(text)
	if !ok || err != nil || n < 1 {
		return 0
	}
	return n
}

func (s Settings) freeName() (string, error) {
	names, err := s.asideNames()
	last := 0
	if len(names) > 0 {
		last = number(names[len(names)-1])
	}
	return asideConf + strconv.Itoa(last+1), err
}

// read returns a file with settings; info is nil if it does not exist. The server's user could
// replace it, so read refuses anything but a regular file and does not follow links.
func (s Settings) read(name string) (text []byte, info fs.FileInfo, err error) {
	f, err := os.OpenFile(s.path(name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxConf {
		return nil, nil, fmt.Errorf("%s is not a file of settings", s.path(name))
	}
	text, err = io.ReadAll(io.LimitReader(f, maxConf))
	return text, info, err
}

// write writes a file with settings for the owner of the data directory, with the mode of like.
func (s Settings) write(name string, text []byte, like fs.FileInfo) error {
	mode := fs.FileMode(0o600)
	if like != nil {
		mode = like.Mode().Perm()
	}
	dir, err := os.Stat(s.Data)
	if err != nil {
		return err
	}
	owner := dir.Sys().(*syscall.Stat_t)
	f, err := durable.Create(s.path(name), mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Commit()
}

// settingLine matches a setting as ALTER SYSTEM writes it (write_auto_conf_file in guc.c).
var settingLine = regexp.MustCompile(`(?m)^\s*([A-Za-z_][A-Za-z0-9_.$]*)\s*=?\s*(.*?)\s*$`)

// parseConf returns the settings of a file by name.
func parseConf(text []byte) map[string]string {
	settings := map[string]string{}
	for _, m := range settingLine.FindAllSubmatch(text, -1) {
		settings[strings.ToLower(string(m[1]))] = string(m[2])
	}
	return settings
}

// damaged reports whether a file contains a NUL, as a file with blocks lost in a power cut does.
func damaged(text []byte) bool { return bytes.IndexByte(text, 0) >= 0 }

// differences returns the names of the settings that differ between two files.
func differences(a, b []byte) []string {
	one, other := parseConf(a), parseConf(b)
	changed := map[string]bool{}
	for name, value := range one {
		changed[name] = other[name] != value
	}
	for name := range other {
		if _, ok := one[name]; !ok {
			changed[name] = true
		}
	}
	var names []string
	for name, is := range changed {
		if is {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func settingsText(names []string) string {
	if len(names) == 0 {
		return "(the file is damaged)"
	}
	return strings.Join(names, ", ")
}
