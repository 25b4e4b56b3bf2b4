//go:build linux

package endpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/guest/journal"
)

// serveRepair makes one of guestapi.Repairs. The header of the answer goes out before it begins. It
// goes on when the caller has disconnected.
func (s *Server) serveRepair(w http.ResponseWriter, r *http.Request) {
	what := r.URL.Query().Get(guestapi.QueryRepair)
	if !slices.Contains(guestapi.Repairs, what) {
		http.Error(w, fmt.Sprintf("%q is not a repair that this version knows", what), http.StatusBadRequest)
		return
	}
	end, err := s.config.Keeper.Reserve()
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	defer end()
	c := http.NewResponseController(w)
	if err := c.SetWriteDeadline(time.Now().Add(guestapi.RepairTime + headerTimeout)); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_ = c.Flush() // or the caller has disconnected
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(r.Context()), guestapi.RepairTime, fmt.Errorf("it took longer than %s", guestapi.RepairTime))
	defer cancel()
	s.config.Console.Log(journal.Info, journal.InitName, "repair", "what", what)
	answer := guestapi.Repair{Done: []string{}}
	done, err := s.config.Machine.Repair(ctx, what)
	answer.Done = append(answer.Done, done...)
	if err != nil {
		answer.Fault = err.Error()
		s.config.Console.Log(journal.Warn, journal.InitName, "the repair failed", "what", what, "error", err)
	}
	_ = json.NewEncoder(w).Encode(answer)
}
