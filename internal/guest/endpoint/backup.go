//go:build linux

package endpoint

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// streamPatience is how long a backup's or restore's stream may stand still. Both ends send
// something every few seconds.
const streamPatience = time.Minute

// serveBackup answers with the databases' stream. An error after its beginning is part of it.
func (s *Server) serveBackup(w http.ResponseWriter, r *http.Request) {
	s.serveStep(w, r, "postgres-backup", nil)
}

// serveRestore takes a stream and answers with the progress of its restore.
func (s *Server) serveRestore(w http.ResponseWriter, r *http.Request) {
	// Answers come while the body is still read.
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.serveStep(w, r, "postgres-restore", &patientReader{r: r.Body, c: http.NewResponseController(w)})
}

// serveStep runs a step of PostgreSQL's, as the server's user, between the request's body and its
// answer.
func (s *Server) serveStep(w http.ResponseWriter, r *http.Request, step string, in io.Reader) {
	if !s.saving.TryLock() {
		http.Error(w, "another backup or restore is under way", http.StatusConflict)
		return
	}
	defer s.saving.Unlock()
	spec, err := s.config.Machine.ReadyDatabase()
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	self, err := os.Executable()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	p, err := process.Command{
		Argv: []string{self, step, "--socket=" + spec.Ready.Postgres, "--bin=" + filepath.Dir(spec.Command[0])},
		User: spec.User, Group: spec.Group, Path: s.config.Path, Env: spec.Env, Dir: "/",
	}.Stream(s.config.Reaper, in != nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if in != nil {
		go func() {
			io.Copy(p.In, in) // cut off, the stream says so by itself
			p.In.Close()
		}()
	}
	_, err = io.Copy(&patientWriter{w: w, c: http.NewResponseController(w)}, p.Out)
	p.Out.Close()
	if err != nil || r.Context().Err() != nil { // the caller has gone
		p.Signal(unix.SIGTERM)
	}
	select {
	case <-p.Ended:
	case <-time.After(streamPatience):
		p.SignalGroup(unix.SIGKILL)
		<-p.Ended
	}
	if p.Err() != nil {
		s.config.Console.Log(journal.Warn, journal.InitName, step+" failed", "how", p.Outcome())
	}
}

// A patientReader reads a body of any length. It fails when nothing comes for streamPatience.
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

// A patientWriter writes an answer of any length. It fails when the caller reads nothing for
// streamPatience.
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
