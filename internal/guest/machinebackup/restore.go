//go:build linux

package machinebackup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// Restore reads a stream of package backup and restores the databases and services in it. Nothing
// changes until the whole stream was read and verified, or if an error occurs before. say is called
// with the progress, by one goroutine at a time.
func (k *Keeper) Restore(ctx context.Context, in io.Reader, say func(backup.Event)) (*backup.Restoration, error) {
	t := &restore{keeper: k, ctx: ctx, say: say, did: backup.Restoration{Databases: []string{}, Roles: []string{}}}
	if err := t.run(in); err != nil {
		return nil, err
	}
	return &t.did, nil
}

// A restore is a running restore.
type restore struct {
	keeper   *Keeper
	ctx      context.Context
	say      func(backup.Event)
	dirs     []string // for staged data, one for each of keeper.Roots; nil if no service has a backup
	database *databaseRestore
	swap     swap
	stopped  []string            // services whose paths are replaced
	streams  []guestspec.Service // services that restore with their own program
	did      backup.Restoration
}

func (t *restore) run(in io.Reader) error {
	var err error
	if t.dirs, err = makeRestoreDirs(t.keeper.Roots, t.keeper.Services); err != nil {
		return err
	}
	if t.dirs != nil {
		t.swap.dir = t.dirs[0]
		if _, err := os.Lstat(filepath.Join(t.swap.dir, note)); err == nil {
			return errors.New("restore: nothing was changed: an earlier one has not ended: restart the machine, which ends it")
		}
		if err := tidy(t.dirs); err != nil { // of an interrupted restore
			return fmt.Errorf("restore: nothing was changed: %w", err)
		}
	}
	if err := t.stage(backup.NewReader(in)); err != nil {
		return t.undo(err)
	}
	return t.commit()
}

// undo removes the staged data and returns the error to report.
func (t *restore) undo(reason error) error {
	// The step's error says what it has undone and includes the reason.
	err := t.abort(reason)
	if err == nil {
		err = fmt.Errorf("restore: nothing was changed: %w", reason)
	}
	return errors.Join(err, tidy(t.dirs))
}

// stage reads the whole stream.
func (t *restore) stage(parts *backup.Reader) error {
	for {
		part, content, err := parts.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		switch part.Kind {
		case backup.KindRoles, backup.KindDatabase:
			err = t.stageDatabase(part, content)
		default:
			if err = t.stageService(part, content); err != nil {
				err = fmt.Errorf("service %s: %w", part.Service.Name, err)
			}
		}
		if err != nil {
			return err
		}
	}
	if t.database == nil && len(t.stopped)+len(t.streams) == 0 {
		return errors.New("the backup holds nothing")
	}
	return nil
}

// abort ends PostgreSQL's step without a change and returns its error.
func (t *restore) abort(reason error) error {
	if t.database == nil {
		return nil
	}
	impatient := time.AfterFunc(stepPatience, func() { t.database.step.Signal(unix.SIGTERM) })
	defer impatient.Stop()
	_, err := t.database.end(func(w *backup.Writer) error { return w.Fail(reason.Error()) })
	return err
}

func (t *restore) stageDatabase(part backup.Part, content io.Reader) error {
	if t.database == nil {
		if !t.keeper.hasDatabase() {
			return errors.New("the backup holds databases, and this machine has no PostgreSQL: choose services with --service")
		}
		var err error
		if t.database, err = t.keeper.startDatabaseRestore(t.say); err != nil {
			return err
		}
	}
	return pass(t.database.parts, part, content)
}

// stageService stages one part of a service.
func (t *restore) stageService(part backup.Part, content io.Reader) error {
	i := slices.IndexFunc(t.keeper.Services, func(s guestspec.Service) bool { return s.Name == part.Service.Name && s.Backup != nil })
	if i < 0 {
		return errors.New("this machine has no such service, or its recipe gives it no backup: choose other parts with --service and --database")
	}
	s := t.keeper.Services[i]
	t.say(backup.Event{Progress: "reading the data of service " + s.Name})
	if part.Kind == backup.KindStream {
		if len(s.Backup.Restore) == 0 || slices.ContainsFunc(t.streams, func(o guestspec.Service) bool { return o.Name == s.Name }) {
			return errors.New("the backup holds what a program of it wrote, and the recipe has no backup.restore for it, or it holds that twice")
		}
		t.streams = append(t.streams, s)
		return t.spool(s.Name, content)
	}
	for _, name := range part.Service.Paths {
		if !slices.Contains(s.Backup.Paths, name) {
			return fmt.Errorf("the backup holds %q, which backup.paths of the recipe does not list: add it there", name)
		}
	}
	if !slices.Contains(t.stopped, s.Name) {
		t.stopped = append(t.stopped, s.Name)
	}
	if s.Backup.Asked {
		t.did.Warnings = append(t.did.Warnings, fmt.Sprintf("service %s: this machine is now the node that was saved: the machine that was saved must not run any more; "+
			"where the service is off, a restart of the machine starts it", s.Name))
	}
	return t.extract(s, part.Service.Paths, content)
}

func (t *restore) streamFile(service string) string {
	return filepath.Join(t.swap.dir, service+".stream")
}

// spool stores the output of a service's program until the stream is complete.
func (t *restore) spool(service string, content io.Reader) error {
	f, err := os.OpenFile(t.streamFile(service), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(copyWithRoom(f, content, int(f.Fd())), f.Close())
}

// dirFor returns the directory for restores on the disk of paths.
func (t *restore) dirFor(paths []string) (string, error) {
	root := guestspec.Root(t.keeper.Roots, paths[0])
	for _, name := range paths {
		if guestspec.Root(t.keeper.Roots, name) != root {
			return "", fmt.Errorf("%q and %q are on several disks of this machine, and on one in the backup", paths[0], name)
		}
	}
	return t.dirs[slices.Index(t.keeper.Roots, root)], nil
}

// extract unpacks a service's paths in a process with the service's confinement.
func (t *restore) extract(s guestspec.Service, paths []string, content io.Reader) error {
	dir, err := t.dirFor(paths)
	if err != nil {
		return err
	}
	cred, _, err := process.Credential(s.User, s.Group)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	to := filepath.Join(dir, s.Name)
	if err := os.Mkdir(to, 0o700); errors.Is(err, os.ErrExist) {
		return errors.New("the backup holds its paths twice")
	} else if err != nil {
		return err
	}
	if err := os.Lchown(to, int(cred.Uid), int(cred.Gid)); err != nil {
		return err
	}
	foreign, err := t.runExtract(s.Name, append([]string{self, StepExtract, "--to=" + to, "--"}, paths...), to, content)
	if err != nil {
		return err
	}
	if foreign > 0 {
		t.did.Warnings = append(t.did.Warnings, fmt.Sprintf("service %s: %d files had other owners, which the service may not give them; they are %s's now", s.Name, foreign, s.User))
	}
	return t.plan(s, dir, paths)
}

// runExtract runs the step with content as its input. It returns the step's report: the number of
// files whose owner could not be set.
func (t *restore) runExtract(service string, argv []string, to string, content io.Reader) (foreign int, err error) {
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	in, feed, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	report, out, err := os.Pipe()
	if err != nil {
		in.Close()
		feed.Close()
		return 0, err
	}
	defer report.Close()
	ended := make(chan error, 1)
	go func() {
		err := t.keeper.Supervisor.Run(ctx, service, argv, in, out, to)
		in.Close()
		out.Close()
		ended <- err
	}()
	_, err = io.Copy(feed, content)
	if err != nil && !errors.Is(err, unix.EPIPE) {
		cancel() // the step must not take incomplete data for the whole
	}
	feed.Close()
	if runErr := <-ended; err == nil || errors.Is(err, unix.EPIPE) && runErr != nil {
		err = runErr
	}
	if err != nil {
		return 0, err
	}
	text, err := io.ReadAll(io.LimitReader(report, 32))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// plan adds the items that replace a service's paths by the staged data in dir. It returns an error
// for a path that cannot be replaced.
func (t *restore) plan(s guestspec.Service, dir string, paths []string) error {
	for _, name := range paths {
		place := item{Path: name}
		if dir != t.swap.dir {
			place.Dir = dir
		}
		for _, other := range t.keeper.Services {
			place.Contents = place.Contents || slices.ContainsFunc(other.Directories, func(d guestspec.Directory) bool { return d.Path == name })
		}
		info, err := os.Lstat(filepath.Join(dir, s.Name, name))
		if err == nil {
			place.New = filepath.Join(s.Name, name)
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if place.Contents && err == nil && !info.IsDir() {
			return fmt.Errorf("%s is a directory of the service, and something else in the backup", name)
		}
		t.swap.Items = append(t.swap.Items, place)
	}
	return nil
}

const (
	// readyTime limits the wait for a service whose program restores its data.
	readyTime = 5 * time.Minute
	// restoreTime limits that program: the client may have disconnected and cannot stop it.
	restoreTime = 6 * time.Hour
)

// commit swaps all data in. After the services have stopped it continues even if the client
// disconnects.
func (t *restore) commit() error {
	ctx := context.WithoutCancel(t.ctx)
	var paused []func()
	resume := func() {
		for _, resume := range paused {
			resume()
		}
	}
	defer resume()
	for _, name := range t.stopped {
		t.say(backup.Event{Progress: "stopping service " + name})
		again, err := t.keeper.Supervisor.Pause(t.ctx, name)
		if err != nil {
			return t.undo(err)
		}
		paused = append(paused, again)
	}
	if err := t.swap.check(); err != nil { // the services could change their directories until now
		return t.undo(err)
	}
	if t.database != nil {
		did, err := t.database.end((*backup.Writer).Close)
		if err != nil {
			return errors.Join(err, tidy(t.dirs))
		}
		t.did.Databases, t.did.Roles = did.Databases, did.Roles
		t.did.Warnings = append(t.did.Warnings, did.Warnings...)
	}
	if len(t.swap.Items) > 0 {
		t.say(backup.Event{Progress: "putting the data of services in their places"})
		if err := t.swap.begin(); err != nil {
			return t.partly(err)
		}
		if err := t.swap.finish(); err != nil {
			return t.partly(fmt.Errorf("%w: restart the machine, which tries again", err))
		}
		t.did.Services = append(t.did.Services, t.stopped...)
	}
	resume()
	for _, s := range t.streams {
		if err := t.feed(ctx, s); err != nil {
			return t.partly(fmt.Errorf("service %s: %w: its data may be neither the old nor the new", s.Name, err))
		}
		if !slices.Contains(t.did.Services, s.Name) {
			t.did.Services = append(t.did.Services, s.Name)
		}
	}
	if err := tidy(t.dirs); err != nil {
		t.did.Warnings = append(t.did.Warnings, fmt.Sprintf("what was replaced still takes space, until the next restore: %v", err))
	}
	return nil
}

// partly returns the error of a restore that failed after it had changed data.
func (t *restore) partly(err error) error {
	done := slices.Concat(t.did.Databases, t.did.Services)
	if len(done) == 0 {
		return fmt.Errorf("restore: %w", err)
	}
	return fmt.Errorf("restore: %s are restored, the rest is not: %w", strings.Join(done, ", "), err)
}

// feed passes the spooled data to a service's program.
func (t *restore) feed(ctx context.Context, s guestspec.Service) error {
	t.say(backup.Event{Progress: "restoring service " + s.Name})
	waiting, cancel := context.WithTimeoutCause(ctx, readyTime, fmt.Errorf("it is not ready after %s", readyTime))
	defer cancel()
	if err := t.keeper.Supervisor.Await(waiting, s.Name); err != nil {
		return err
	}
	in, err := os.Open(t.streamFile(s.Name))
	if err != nil {
		return err
	}
	defer in.Close()
	running, cancel := context.WithTimeoutCause(ctx, restoreTime, fmt.Errorf("it took longer than %s", restoreTime))
	defer cancel()
	return t.keeper.Supervisor.Run(running, s.Name, s.Backup.Restore, in, nil, "")
}

// A databaseRestore is PostgreSQL's step.
type databaseRestore struct {
	keeper *Keeper
	step   *process.Stream
	parts  *backup.Writer // its input
	result chan backup.Event
}

func (k *Keeper) startDatabaseRestore(say func(backup.Event)) (*databaseRestore, error) {
	p, err := k.startStep("postgres-restore", true)
	if err != nil {
		return nil, err
	}
	d := &databaseRestore{keeper: k, step: p, parts: backup.NewWriter(p.In), result: make(chan backup.Event, 1)}
	go d.follow(say)
	return d, nil
}

// follow relays the step's events until the one with its result.
func (d *databaseRestore) follow(say func(backup.Event)) {
	var last backup.Event
	events := json.NewDecoder(d.step.Out)
	for last.Done == nil && last.Fault == "" {
		var e backup.Event
		if err := events.Decode(&e); err != nil {
			last.Fault = "restore: PostgreSQL's step ended without a word: see the console"
			break
		}
		if e.Progress != "" {
			say(backup.Event{Progress: e.Progress})
		}
		last = e
	}
	d.result <- last
}

// end ends the step's stream with close and returns the step's result.
func (d *databaseRestore) end(close func(*backup.Writer) error) (*backup.Restoration, error) {
	_ = close(d.parts) // a step that does not read any more has reported why
	d.step.In.Close()
	last := <-d.result
	d.keeper.endStep(d.step)
	if last.Done == nil {
		return nil, errors.New(last.Fault)
	}
	return last.Done, nil
}

// Events returns a function that writes events to w, one line of JSON each. It may be called by
// several goroutines. Until stop is called, an empty event every few seconds tells the client that
// the work continues.
func Events(w io.Writer) (say func(backup.Event), stop func()) {
	const often = 5 * time.Second
	lines := make(chan []byte)
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(often)
		defer ticker.Stop()
		for {
			line := []byte("{}\n")
			select {
			case line = <-lines:
			case <-ticker.C:
			case <-quit:
				return
			}
			_, _ = w.Write(line) // the client may have disconnected: the restore continues
		}
	}()
	say = func(e backup.Event) {
		var b bytes.Buffer
		if json.NewEncoder(&b).Encode(e) == nil {
			lines <- b.Bytes()
		}
	}
	return say, func() {
		close(quit)
		<-ended
	}
}
