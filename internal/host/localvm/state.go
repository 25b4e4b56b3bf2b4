package localvm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/host/qemu"
)

// A state is the folder with a machine's persistent data: its disks and the passwords of its
// cluster. Only its owner can read it. The folder is locked while a machine runs.
type state struct {
	dir     string
	runtime string // folder for files of one run: dir, or one in memory
	lock    *durable.Lock
}

// dataName is the data disk's file, volumePrefix the prefix of the files of volumes.
const dataName, volumePrefix = "data.img", "volume-"

// diskName returns the file name of a volume, or of the data disk if volume is "".
func diskName(volume string) string {
	if volume != "" {
		return volumePrefix + volume + ".img"
	}
	return dataName
}

// Names of files with secrets that are removed when the run ends.
const (
	configName   = "config.img"
	passfileName = "passfile"
)

// errBusy is returned where another process runs a machine on the same data.
var errBusy = errors.New("a machine is running on this data already")

func openState(ctx context.Context, dir, runtime string) (*state, error) {
	dir, err := filepath.Abs(dir) // the URL that names a file in it is used from other folders
	if err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, lockName)
	// At holds the lock briefly.
	patient, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	lock, err := durable.WaitLock(patient, path, durable.Exclusive, durable.LockOptions{NotePID: true})
	if errors.Is(err, durable.ErrBusy) {
		return nil, fmt.Errorf("%s: %w (process %d): stop that one, or use --ephemeral or another --state", dir, errBusy, durable.Holder(path))
	}
	if err != nil {
		return nil, err
	}
	s := &state{dir, dir, lock}
	os.Remove(s.path(runningName)) // may be left by a run that was killed
	s.removePrivate()
	if runtime != "" {
		if made, err := os.MkdirTemp(runtime, "sov-"); err == nil {
			s.runtime = made
		}
	}
	return s, nil
}

// close removes the files of the run and unlocks the folder. A second call does nothing.
func (s *state) close() error {
	err := errors.Join(os.RemoveAll(s.path(runningName)), s.removePrivate())
	if s.runtime != s.dir {
		err = errors.Join(err, os.RemoveAll(s.runtime))
	}
	s.lock.Release()
	return err
}

func (s *state) removePrivate() error {
	var failed error
	for _, name := range []string{configName, passfileName} {
		path := s.private(name)
		for _, path := range []string{path, path + ".new"} { // the second may be left by an earlier version of sov
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				failed = errors.Join(failed, err)
			}
		}
		failed = errors.Join(failed, durable.RemoveLeftovers(path))
	}
	return failed
}

// private returns the path of a file that is removed when the run ends.
func (s *state) private(name string) string { return filepath.Join(s.runtime, name) }

// config makes the config disk: in memory (memfd) or, where the platform lacks that, in a file that
// release removes.
func (s *state) config(content []byte) (disk qemu.Disk, release func(), err error) {
	if memory, err := configdisk.InMemory(content); err == nil {
		defer memory.Close()
		if f, err := memory.Open(); err == nil {
			return qemu.Disk{File: f, ReadOnly: true}, func() { f.Close() }, nil
		}
	}
	path := s.private(configName)
	if err := durable.WriteFile(path, content, 0o600); err != nil {
		return disk, nil, err
	}
	return qemu.Disk{Path: path, ReadOnly: true}, func() { os.Remove(path) }, nil
}

func (s *state) path(name string) string { return filepath.Join(s.dir, name) }

// dataFiles returns the paths of the data disk and the volumes of a state folder.
func dataFiles(dir string) []string {
	volumes, _ := filepath.Glob(filepath.Join(dir, volumePrefix+"*.img")) // fails only for an invalid pattern
	return append(volumes, filepath.Join(dir, dataName))
}

// disk returns the path of the data disk or a volume. It creates a missing image, and enlarges one
// that is smaller than d.
func (s *state) disk(ctx context.Context, d datadisk.Spec) (string, error) {
	path := s.path(diskName(d.Volume))
	_, err := d.Ensure(ctx, path)
	if errors.As(err, new(*datadisk.MismatchError)) {
		return "", fmt.Errorf("%s: %w: move the file away, or run this machine with another --state", d.Name(), err)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", d.Name(), err)
	}
	return path, nil
}

// passwords returns the passwords of roles by the names of their secrets, and a file with them in
// libpq's format (libpq, "The Password File"), so that no password is in psql's arguments.
// Passwords that are not given are made on the first call and kept. The file's name is empty if the
// superuser's password has a line break, which the format cannot express.
func (s *state) passwords(logins []vmspec.Login, given map[string]string) (all map[string]string, file string, err error) {
	file = s.path("pgpass")
	kept, err := readPassfile(file)
	if err != nil {
		return nil, "", err
	}
	all = map[string]string{}
	var made, lines strings.Builder
	anyGiven, anyNew := false, false
	for _, login := range logins {
		password := given[login.Secret]
		if password != "" {
			anyGiven = true
		} else {
			if password = kept[login.Role]; password == "" {
				password, anyNew = rand.Text(), true
			}
			made.WriteString(passfile(login.Role, password))
		}
		all[login.Secret] = password
		if !strings.ContainsAny(password, "\r\n") {
			lines.WriteString(passfile(login.Role, password))
		}
	}
	if anyNew {
		if err := durable.WriteFile(file, []byte(made.String()), 0o600); err != nil {
			return nil, "", err
		}
	}
	if strings.ContainsAny(all[vmspec.Superuser.Secret], "\r\n") {
		return all, "", nil
	}
	if anyGiven {
		file = s.private(passfileName)
		err = durable.WriteFile(file, []byte(lines.String()), 0o600)
	}
	return all, file, err
}

// readPassfile returns the passwords that passwords has kept, by role; none if the file does not
// exist.
func readPassfile(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	kept := map[string]string{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 5 || fields[4] == "" {
			return nil, fmt.Errorf("%s is not a password file of sov's: remove it and a new one is made", file)
		}
		kept[fields[3]] = fields[4]
	}
	return kept, nil
}

// passfile returns a line of a password file. The names of a recipe's roles need no escapes.
func passfile(role, password string) string {
	return "*:*:*:" + role + ":" + strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(password) + "\n"
}

// runFolder holds the state folders.
const runFolder = "run"

// StateFolder returns the folder below base that keeps an artifact's data: one for each recipe and
// architecture.
func StateFolder(base, artifact string) (string, error) {
	artifact, err := filepath.Abs(artifact)
	if err != nil {
		return "", err
	}
	return filepath.Join(base, runFolder, filepath.Base(filepath.Dir(artifact))+"-"+filepath.Base(artifact)), nil
}
