package guest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestOutOfMemory lets memory run out, by a service of the recipe and by a query: each is ended,
// and nothing else.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	options := guesttest.EveryService(t, 512)
	options.CPUs = 1 // see TestHostileService
	g := guesttest.Boot(t, options)
	before := guesttest.Restarts(t, g)
	pids := guesttest.EveryProcess(t, g, "at first", "session")
	guesttest.Hostile(t, g, "awk \"BEGIN { s = 1234567890; for (i = 0; i < 10; i++) s = s s; while (1) a[n++] = s n }\"")
	awaitLine(t, g, "Memory cgroup out of memory: Killed process")
	guesttest.AwaitAll(t, g, func(guestapi.Service) bool { return true })
	after := guesttest.Restarts(t, g)
	for _, name := range []string{"postgres", "tailscale"} {
		if after[name] != before[name] {
			t.Errorf("a service of the recipe took all memory, and %s was started again", name)
		}
	}
	if got := guesttest.EveryProcess(t, g, "after a service took all memory", "session"); got["checkpointer"] != pids["checkpointer"] {
		t.Error("a service of the recipe took all memory, and a process of PostgreSQL's was ended for it")
	}

	conn := g.Connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*sovtest.WaitLimit)
	defer cancel()
	_, err := conn.Exec(ctx, "select array_length(array_agg(repeat('x', 8000) || n), 1) from generate_series(1, 120000) n").ReadAll()
	if err == nil || ctx.Err() != nil {
		t.Fatalf("a query takes more memory than there is, and ends with %v", err)
	}
	guesttest.AwaitAll(t, g, func(guestapi.Service) bool { return true })
	if got := guesttest.EveryProcess(t, g, "after a query took all memory", "session"); got["postmaster"] != pids["postmaster"] || got["tailscaled"] != pids["tailscaled"] {
		t.Errorf("a query took all memory, and of %v these are left: %v", pids, got)
	}
}

// awaitLine waits for the guest's console to show a text.
func awaitLine(t *testing.T, g *guesttest.Guest, text string) {
	t.Helper()
	for deadline := time.Now().Add(2 * sovtest.WaitLimit); !strings.Contains(g.Log(t), text); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the console does not say %q:\n%s", text, g.Log(t))
		}
	}
}
