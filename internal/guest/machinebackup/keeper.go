//go:build linux

package machinebackup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/process"
	"github.com/sovereign-sql/sov/internal/guest/supervision"
)

// A Keeper backs up and restores a machine's data.
type Keeper struct {
	Supervisor *supervision.Supervisor
	Reaper     *process.Reaper
	Console    *journal.Console
	Path       string              // PATH of the steps
	Roots      []string            // as guestspec.Config lists them
	Services   []guestspec.Service // of the machine
	// Database returns PostgreSQL's service, or an error if it is not ready.
	Database func() (*guestspec.Service, error)
	// Mounted returns an error if one of Roots is not mounted.
	Mounted func() error

	busy sync.Mutex // held by a running backup or restore
}

// saved returns the services that have a backup.
func saved(services []guestspec.Service) (list []guestspec.Service) {
	for _, s := range services {
		if s.Backup != nil {
			list = append(list, s)
		}
	}
	return list
}

// hasDatabase reports whether the machine has PostgreSQL with a backup step.
func (k *Keeper) hasDatabase() bool {
	for _, s := range k.Services {
		if s.Name == guestspec.ServicePostgres && strings.HasPrefix(s.Ready.Postgres, "/") {
			return true
		}
	}
	return false
}

// Reserve reserves the machine for a caller that stops services, until end is called.
func (k *Keeper) Reserve() (end func(), err error) {
	if !k.busy.TryLock() {
		return nil, errors.New("another backup, restore or repair is under way")
	}
	return k.busy.Unlock, nil
}

// Begin reserves the machine for one backup or restore, until end is called. The error says why it
// is not possible now.
func (k *Keeper) Begin() (end func(), err error) {
	end, err = k.Reserve()
	if err != nil {
		return nil, err
	}
	switch {
	case k.hasDatabase():
		_, err = k.Database()
	case !slices.ContainsFunc(k.Services, func(s guestspec.Service) bool { return s.Backup != nil && !s.Backup.Asked }):
		err = errors.New("this machine has neither PostgreSQL nor a service with a backup in its recipe")
	default:
		err = k.Mounted()
	}
	if err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// Backup writes all roles and databases, and the data of all services that have a backup, to w as a
// stream of package backup. An error ends the stream with the reason and is returned. A service
// that is stopped for the backup is always started again. With identity the backup includes the
// state of the machine's node.
func (k *Keeper) Backup(ctx context.Context, w io.Writer, identity bool) error {
	ctx, cancel := context.WithCancel(ctx)
	stream := backup.NewWriter(w)
	var alive sync.WaitGroup
	alive.Go(func() { stream.KeepAlive(ctx) })
	err := k.backUp(ctx, stream, identity)
	cancel()
	alive.Wait() // after it nothing writes to w
	if err != nil {
		stream.Fail(err.Error())
	}
	return err
}

func (k *Keeper) backUp(ctx context.Context, stream *backup.Writer, identity bool) error {
	if k.hasDatabase() {
		if err := k.backUpDatabases(ctx, stream); err != nil {
			return err
		}
	}
	for _, s := range saved(k.Services) {
		if s.Backup.Asked && !identity {
			continue
		}
		if err := k.backUpService(ctx, stream, s); err != nil {
			return fmt.Errorf("back up: service %s: %w", s.Name, err)
		}
	}
	return stream.Close()
}

// backUpDatabases relays the parts of PostgreSQL's step.
func (k *Keeper) backUpDatabases(ctx context.Context, stream *backup.Writer) error {
	p, err := k.startStep("postgres-backup", false)
	if err != nil {
		return err
	}
	defer k.endStep(p)
	stop := context.AfterFunc(ctx, func() { p.Signal(unix.SIGTERM) })
	defer stop()
	parts := backup.NewReader(p.Out)
	for {
		part, content, err := parts.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = pass(stream, part, content)
		}
		if err != nil {
			p.Signal(unix.SIGTERM)
			return err
		}
	}
}

func pass(stream *backup.Writer, part backup.Part, content io.Reader) error {
	if err := stream.Begin(part); err != nil {
		return err
	}
	if _, err := io.Copy(stream, content); err != nil {
		return err
	}
	return stream.End()
}

// startStep starts a step of PostgreSQL's service as the server's user.
func (k *Keeper) startStep(step string, stdin bool) (*process.Stream, error) {
	spec, err := k.Database()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return process.Command{
		Argv: []string{self, step, "--socket=" + spec.Ready.Postgres},
		User: spec.User, Group: spec.Group, Path: k.Path, Env: spec.Env, Dir: "/",
	}.Stream(k.Reaper, stdin)
}

// stepPatience is how long a step may take to end after its output is not read any more.
const stepPatience = time.Minute

// endStep waits for a step's end.
func (k *Keeper) endStep(p *process.Stream) {
	p.Out.Close()
	select {
	case <-p.Ended:
	case <-time.After(stepPatience):
		p.SignalGroup(unix.SIGKILL)
		<-p.Ended
	}
	if p.Err() != nil {
		k.Console.Log(journal.Warn, journal.InitName, "a step of PostgreSQL's backup or restore failed", "how", p.Outcome())
	}
}

func (k *Keeper) backUpService(ctx context.Context, stream *backup.Writer, s guestspec.Service) error {
	if len(s.Backup.Command) > 0 {
		part := backup.Part{Kind: backup.KindStream, Service: &backup.Service{Name: s.Name}}
		if err := k.backUpOutput(ctx, stream, part, s.Backup.Command); err != nil {
			return err
		}
	}
	if len(s.Backup.Paths) == 0 {
		return nil
	}
	if s.Backup.Asked { // an empty part would delete the data of the machine that it is restored to
		if _, err := os.Stat(s.Backup.Paths[0]); err != nil {
			return fmt.Errorf("the machine has no identity to save: %w", err)
		}
	}
	if len(s.Backup.Command) == 0 {
		resume, err := k.Supervisor.Pause(ctx, s.Name)
		if err != nil {
			return err
		}
		defer resume()
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// The paths on one disk form one part.
	for _, root := range k.Roots {
		var paths []string
		for _, name := range s.Backup.Paths {
			if guestspec.Root(k.Roots, name) == root {
				paths = append(paths, name)
			}
		}
		if len(paths) == 0 {
			continue
		}
		part := backup.Part{Kind: backup.KindPaths, Service: &backup.Service{Name: s.Name, Paths: paths}}
		if err := k.backUpOutput(ctx, stream, part, append([]string{self, StepArchive, "--"}, paths...)); err != nil {
			return err
		}
	}
	return nil
}

// The steps that run in a service's confinement: sov-init executes itself under these names.
const (
	StepArchive = "service-archive"
	StepExtract = "service-extract"
)

// backUpOutput writes the standard output of a service's program as a part. The program must exit
// with status 0.
func (k *Keeper) backUpOutput(ctx context.Context, stream *backup.Writer, part backup.Part, argv []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := stream.Begin(part); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	ended := make(chan error, 1)
	go func() {
		err := k.Supervisor.Run(ctx, part.Service.Name, argv, nil, w, "")
		w.Close()
		ended <- err
	}()
	_, err = io.Copy(stream, r)
	if err != nil {
		cancel() // the stream does not accept it any more
	}
	if runErr := <-ended; err == nil {
		err = runErr
	}
	if err != nil {
		return err
	}
	return stream.End()
}
