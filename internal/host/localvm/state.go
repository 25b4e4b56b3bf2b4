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

// A state is the folder in which a machine's data outlives its runs: its disks and the password
// that its cluster knows. Only its owner may look inside. While a machine runs, the folder is
// locked.
type state struct {
	dir     string
	runtime string // folder for what ends with the run; dir, or one in memory
	lock    *durable.Lock
}

// dataName is the data disk's file, volumePrefix what the files of volumes begin with.
const dataName, volumePrefix = "data.img", "volume-"

// diskName is the file of the data disk, whose volume is "", or of a volume.
func diskName(volume string) string {
	if volume != "" {
		return volumePrefix + volume + ".img"
	}
	return dataName
}

// Names of files with secrets that end with the run.
const (
	configName   = "config.img"
	passfileName = "passfile"
)

// errBusy is returned where another process runs a machine on the same data.
var errBusy = errors.New("a machine is running on this data already")

func openState(ctx context.Context, dir, runtime string) (*state, error) {
	dir, err := filepath.Abs(dir) // the URL that names a file in it is used elsewhere
	if err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, lockName)
	// At holds the lock for a moment.
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
	os.Remove(s.path(runningName)) // what a run that was killed left, like the rest
	s.removePrivate()
	if runtime != "" {
		if made, err := os.MkdirTemp(runtime, "sov-"); err == nil {
			s.runtime = made
		}
	}
	return s, nil
}

// close gives the folder free for the next machine. A second call does nothing.
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
		for _, path := range []string{path, path + ".new"} { // the second is what earlier versions left when they were killed
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				failed = errors.Join(failed, err)
			}
		}
		failed = errors.Join(failed, durable.RemoveLeftovers(path))
	}
	return failed
}

// private is the path of a file that ends with the run.
func (s *state) private(name string) string { return filepath.Join(s.runtime, name) }

// config makes the config disk: in memory or, where the computer has no such files, in a file that
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

// dataFiles are the disks with data that may be in a state folder.
func dataFiles(dir string) []string {
	volumes, _ := filepath.Glob(filepath.Join(dir, volumePrefix+"*.img")) // fails for a pattern that is not one
	return append(volumes, filepath.Join(dir, dataName))
}

// disk returns the path of the data disk or a volume, which it makes on the first call, and
// enlarges where it is smaller than it should be.
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

// passwords returns the passwords of roles by their secrets' names, given ones or else those that
// it makes on the first call, and a file with them in libpq's format (libpq, "The Password File"),
// so that psql can use them without showing them. The file's name is empty where the superuser's
// password has a line break, for which the format has no way of writing.
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

// readPassfile returns the passwords, by role, that passwords has made; none where the file does
// not exist.
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

// passfile is a line of a password file. A role of a recipe needs no escapes.
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
