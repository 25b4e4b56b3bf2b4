//go:build linux

package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/cluster"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// streamPatience is how long a backup's or restore's stream may stand still. Both ends say every few seconds that they are
// at work.
const streamPatience = time.Minute

// backUp is the step postgres-backup.
func backUp(ctx context.Context, args []string, _ io.Reader, stderr io.Writer) error {
	s, err := serverOf("postgres-backup", args, stderr)
	if err != nil {
		return err
	}
	return s.Backup(ctx, os.Stdout)
}

// restore is the step postgres-restore.
func restore(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer) error {
	s, err := serverOf("postgres-restore", args, stderr)
	if err != nil {
		return err
	}
	signal.Ignore(unix.SIGPIPE) // whoever asked may be gone: what was begun is undone all the same
	events := make(chan backup.Event)
	go func() {
		did, err := s.Restore(ctx, stdin, func(text string) { events <- backup.Event{Progress: text} })
		if err != nil {
			events <- backup.Event{Fault: err.Error()}
		} else {
			events <- backup.Event{Done: did}
		}
		close(events)
	}()
	return tell(events, os.Stdout)
}

// tell writes events, and an empty one where there has been none for a while.
func tell(events <-chan backup.Event, w io.Writer) error {
	const quiet = 5 * time.Second
	out := json.NewEncoder(w)
	var failed error // to write: the restore goes on to its end all the same
	for {
		var e backup.Event
		select {
		case next, more := <-events:
			if !more {
				return failed
			}
			e = next
		case <-time.After(quiet):
		}
		if err := out.Encode(e); err != nil {
			failed = err
		}
	}
}

func serverOf(step string, args []string, stderr io.Writer) (cluster.Server, error) {
	var s cluster.Server
	flags := newFlags(step, stderr)
	flags.StringVar(&s.Socket, "socket", "", "the `path` of the server's socket")
	flags.StringVar(&s.Bin, "bin", "", "the `directory` of the server's programs")
	return s, parse(flags, args)
}

// serveBackup answers with the databases' stream. What fails once it has begun is said in it.
func (m *machine) serveBackup(w http.ResponseWriter, r *http.Request) {
	m.serveStep(w, r, "postgres-backup", nil)
}

// serveRestore takes a stream and answers with what becomes of it.
func (m *machine) serveRestore(w http.ResponseWriter, r *http.Request) {
	// Answers come while the body is still read.
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	m.serveStep(w, r, "postgres-restore", &patientReader{r: r.Body, c: http.NewResponseController(w)})
}

// serveStep runs a step of PostgreSQL's, as the server's user, between the request's body and its answer.
func (m *machine) serveStep(w http.ResponseWriter, r *http.Request, step string, in io.Reader) {
	if !m.saving.TryLock() {
		http.Error(w, "another backup or restore is under way", http.StatusConflict)
		return
	}
	defer m.saving.Unlock()
	spec, err := m.readyDatabase()
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	self, err := os.Executable()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s, err := process.Command{
		Argv: []string{self, step, "--socket=" + spec.Ready.Postgres, "--bin=" + filepath.Dir(spec.Command[0])},
		User: spec.User, Group: spec.Group, Path: m.spec.Path, Env: spec.Env, Dir: "/",
	}.Stream(m.reaper, in != nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if in != nil {
		go func() {
			io.Copy(s.In, in) // cut off, the stream says so by itself
			s.In.Close()
		}()
	}
	_, err = io.Copy(&patientWriter{w: w, c: http.NewResponseController(w)}, s.Out)
	s.Out.Close()
	if err != nil || r.Context().Err() != nil { // nobody is there any more
		s.Signal(unix.SIGTERM)
	}
	select {
	case <-s.Ended:
	case <-time.After(streamPatience):
		s.SignalGroup(unix.SIGKILL)
		<-s.Ended
	}
	if s.Err() != nil {
		m.console.Log(journal.Warn, journal.InitName, step+" failed", "how", s.Outcome())
	}
}

// readyDatabase describes the database's service, where that is ready.
func (m *machine) readyDatabase() (*guestspec.Service, error) {
	services, _ := m.supervisor.Status()
	spec, service := m.describedService(guestspec.ServicePostgres, services)
	if spec == nil || !strings.HasPrefix(spec.Ready.Postgres, "/") {
		return nil, errors.New("this machine has no PostgreSQL")
	}
	if service.State != guestapi.StateReady {
		return nil, fmt.Errorf("PostgreSQL is %s: %s", service.State, service.Reason)
	}
	return spec, nil
}

// A patientReader reads a body for as long as it goes on.
type patientReader struct {
	r io.Reader
	c *http.ResponseController
}

// Read implements io.Reader.
func (p *patientReader) Read(b []byte) (int, error) {
	if err := p.c.SetReadDeadline(time.Now().Add(streamPatience)); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}

// A patientWriter writes an answer for as long as somebody takes it.
type patientWriter struct {
	w io.Writer
	c *http.ResponseController
}

// Write implements io.Writer.
func (p *patientWriter) Write(b []byte) (int, error) {
	if err := p.c.SetWriteDeadline(time.Now().Add(streamPatience)); err != nil {
		return 0, err
	}
	n, err := p.w.Write(b)
	if err == nil {
		err = p.c.Flush()
	}
	return n, err
}
