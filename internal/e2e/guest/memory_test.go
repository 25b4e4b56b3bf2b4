package guest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestOutOfMemory exhausts the memory with a query. The kernel kills only that query's process.
// TestHostileService exhausts it with a service of the recipe.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	options := guesttest.EveryService(t, 512)
	options.CPUs = 1 // see TestHostileService
	g := guesttest.Boot(t, options)
	pids := guesttest.EveryProcess(t, g, "at first", "session")
	conn := g.Connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*sovtest.WaitLimit)
	defer cancel()
	// The query takes a gigabyte in pieces that the kernel grants. The kernel would refuse a single
	// allocation that exceeds the memory.
	_, err := conn.Exec(ctx, "select array_length(array_agg(repeat(repeat('x', 1000000), 20)), 1) from generate_series(1, 50)").ReadAll()
	var refused *pgconn.PgError
	if err == nil || ctx.Err() != nil || errors.As(err, &refused) {
		t.Fatalf("a query takes more memory than there is, and ends with %v", err)
	}
	guesttest.AwaitAll(t, g, func(guestapi.Service) bool { return true })
	if got := guesttest.EveryProcess(t, g, "after a query took all memory", "session"); got["postmaster"] != pids["postmaster"] || got["tailscaled"] != pids["tailscaled"] {
		t.Errorf("a query took all memory, and of %v these are left: %v", pids, got)
	}
}

// awaitLine waits until the guest's console contains text.
func awaitLine(t *testing.T, g *guesttest.Guest, text string) {
	t.Helper()
	for deadline := time.Now().Add(2 * sovtest.WaitLimit); !strings.Contains(g.Log(t), text); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the console does not say %q:\n%s", text, g.Log(t))
		}
	}
}
