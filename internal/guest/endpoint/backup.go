//go:build linux

package endpoint

import (
	"io"
	"net/http"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/machinebackup"
)

// streamPatience is how long a backup's or restore's stream may be silent. Both ends send something
// every few seconds.
const streamPatience = time.Minute

// serveBackup responds with a backup stream of the machine. An error after the start becomes part
// of the stream.
func (s *Server) serveBackup(w http.ResponseWriter, r *http.Request) {
	end, ok := s.beginSaving(w)
	if !ok {
		return
	}
	defer end()
	w.Header().Set("Content-Type", "application/octet-stream")
	identity := r.URL.Query().Get(guestapi.QueryIdentity) != ""
	if err := s.config.Keeper.Backup(r.Context(), &patientWriter{w: w, c: http.NewResponseController(w)}, identity); err != nil {
		s.config.Console.Log(journal.Warn, journal.InitName, "the backup failed", "error", err)
	}
}

// serveRestore reads a stream and responds with the progress of its restore.
func (s *Server) serveRestore(w http.ResponseWriter, r *http.Request) {
	// The response starts while the body is still being read.
	c := http.NewResponseController(w)
	if err := c.EnableFullDuplex(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	end, ok := s.beginSaving(w)
	if !ok {
		return
	}
	defer end()
	w.Header().Set("Content-Type", "application/octet-stream")
	say, stop := machinebackup.Events(&patientWriter{w: w, c: c})
	defer stop()
	did, err := s.config.Keeper.Restore(r.Context(), &patientReader{r: r.Body, c: c}, say)
	if err != nil {
		s.config.Console.Log(journal.Warn, journal.InitName, "the restore failed", "error", err)
		say(backup.Event{Fault: err.Error()})
		return
	}
	say(backup.Event{Done: did})
}

// beginSaving reserves the machine for a backup or restore, or responds with an error.
func (s *Server) beginSaving(w http.ResponseWriter) (end func(), ok bool) {
	end, err := s.config.Keeper.Begin()
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
	}
	return end, err == nil
}

// A patientReader reads a body of any length. It fails after streamPatience without data.
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

// A patientWriter writes a response of any length. It fails if the client does not read for
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
