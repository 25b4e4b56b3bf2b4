//go:build linux

package endpoint

import (
	"net/http"
	"slices"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/machinebackup"
)

// serveUpgrade performs the operation in the query on PostgreSQL's cluster, and responds with its
// progress.
func (s *Server) serveUpgrade(w http.ResponseWriter, r *http.Request) {
	do := r.URL.Query().Get(guestapi.QueryDo)
	if !slices.Contains([]string{guestspec.DoUpgrade, guestspec.DoChecksums, guestspec.DoForget}, do) {
		http.Error(w, "unknown action", http.StatusBadRequest)
		return
	}
	end, ok := s.beginSaving(w)
	if !ok {
		return
	}
	defer end()
	w.Header().Set("Content-Type", "application/octet-stream")
	say, stop := machinebackup.Events(&patientWriter{w: w, c: http.NewResponseController(w)})
	defer stop()
	did, err := s.config.Keeper.Upgrade(r.Context(), do, func(e backup.Event) {
		s.config.Console.Log(journal.Info, guestspec.ServicePostgres, e.Progress)
		say(e)
	})
	if err != nil {
		s.config.Console.Log(journal.Error, guestspec.ServicePostgres, do+" failed", "error", err)
		say(backup.Event{Fault: err.Error()})
		return
	}
	say(backup.Event{Upgraded: did})
}
