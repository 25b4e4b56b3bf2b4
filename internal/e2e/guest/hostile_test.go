package guest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
)

// TestHostileService runs a compromised service of a recipe, which tries everything that no service
// needs. The attempts must fail, and SQL and the endpoint must respond during the attack.
func TestHostileService(t *testing.T) {
	t.Parallel()
	options := guesttest.EveryService(t, 512)
	// A single processor is easier to exhaust. Also, QEMU emulates several arm64 processors slowly:
	// when a process frees a page, all processors stop until the host's scheduler has run each of
	// them. For the memory used here, that takes seconds.
	options.CPUs = 1
	g := guesttest.Boot(t, options)
	g.Install(t, "arm64", "../../testkit/hostile", "/run/hostile/attack")
	restarts := guesttest.Restarts(t, g)
	stop := probe(t, g)
	defer stop()

	pids := guesttest.EveryProcess(t, g, "at first", "session")
	for _, line := range attack(t, g, "all "+strconv.Itoa(pids["postmaster"])) {
		if what, failed, _ := strings.Cut(line, "\t"); failed == "<nil>" {
			t.Errorf("a service may: %s", what)
		} else {
			t.Logf("%s: %s", what, failed)
		}
	}
	if n := number(t, attack(t, g, "fork"), "forked\t"); n >= 512 {
		t.Errorf("a service started %d processes", n)
	}
	attack(t, g, "memory")
	awaitLine(t, g, "Memory cgroup out of memory: Killed process")
	t.Logf("%d connections to the endpoint", number(t, attack(t, g, "flood 192.168.100.2:8377"), "flooded\t"))
	if lines := attack(t, g, "print"); !slices.Contains(lines, "printed") {
		t.Errorf("the last line is lost among %d", len(lines))
	}
	if got, want := g.Shell(t, "cat /sys/fs/cgroup/init.*/cpu.weight /sys/fs/cgroup/postgres.*/cpu.weight /sys/fs/cgroup/hostile.*/cpu.weight"), []string{"1000", "1000", "100"}; !slices.Equal(got, want) {
		t.Errorf("the shares of sov-init, PostgreSQL and the service: %q, want %q", got, want)
	}
	if kept := g.Shell(t, "cat /sys/fs/cgroup/postgres.*/memory.low"); len(kept) != 1 || len(kept[0]) != len("250000000") {
		t.Errorf("PostgreSQL keeps %q, want half of 512 MiB", kept)
	}
	stop()
	if got := guesttest.EveryProcess(t, g, "afterwards", "session"); got["checkpointer"] != pids["checkpointer"] {
		t.Error("a process of PostgreSQL's was ended")
	}
	for name, n := range guesttest.Restarts(t, g) {
		if n != restarts[name] && name != "hostile" {
			t.Errorf("%s was started again", name)
		}
	}
}

// attack makes the hostile service run the program, and returns the output from the console. A
// session needs new processes, which may not start in time while a service uses all of an emulated
// processor.
func attack(t *testing.T, g *guesttest.Guest, arguments string) []string {
	t.Helper()
	begins, ends := "attack begins: "+arguments, "attack ends: "+arguments
	guesttest.Hostile(t, g, "echo '"+begins+"'; /run/hostile/attack "+arguments+" 2>&1; echo '"+ends+"'")
	const printed = "out hostile: "
	awaitLine(t, g, printed+ends)
	_, text, _ := strings.Cut(g.Log(t), printed+begins)
	text, _, _ = strings.Cut(text, printed+ends)
	var lines []string
	for line := range strings.Lines(text) {
		if _, said, ok := strings.Cut(strings.TrimSpace(line), printed); ok {
			lines = append(lines, said)
		}
	}
	return lines
}

func number(t *testing.T, lines []string, before string) int {
	t.Helper()
	for _, line := range lines {
		if text, ok := strings.CutPrefix(line, before); ok {
			if n, err := strconv.Atoi(text); err == nil {
				return n
			}
		}
	}
	t.Fatalf("no %q in %q", before, lines)
	return 0
}

// probeLimit limits the response time of SQL and the endpoint on a computer that emulates the
// guest's processor.
const probeLimit = time.Minute

// probe queries SQL and the endpoint until stop is called, which logs the longest response times.
func probe(t *testing.T, g *guesttest.Guest) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		var slowest [2]time.Duration
		asked := 0
		for ctx.Err() == nil {
			for i, ask := range []func(context.Context) error{
				func(ctx context.Context) error { return answersSQL(ctx, g.VM) },
				func(ctx context.Context) error { return saysReady(ctx, g) },
			} {
				start := time.Now()
				within, end := context.WithTimeout(ctx, probeLimit)
				err := ask(within)
				end()
				if err != nil && ctx.Err() == nil {
					t.Errorf("%s is not answered within %s: %v", []string{"SQL", "status"}[i], probeLimit, err)
				}
				slowest[i] = max(slowest[i], time.Since(start))
			}
			asked++
			select { // leaves the service a share of the processor
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
		t.Logf("asked %d times: SQL was answered within %s, status within %s", asked, slowest[0], slowest[1])
	}()
	return func() { cancel(); <-done }
}

// saysReady returns an error unless the endpoint reports that PostgreSQL is ready.
func saysReady(ctx context.Context, g *guesttest.Guest) error {
	status, err := g.Status(ctx)
	if err != nil {
		return err
	}
	for _, s := range status.Services {
		if s.Name == "postgres" && s.State != guestapi.StateReady {
			return fmt.Errorf("postgres is %s: %s", s.State, s.Reason)
		}
	}
	return nil
}

// answersSQL runs a query over a new connection.
func answersSQL(ctx context.Context, vm *localvm.VM) error {
	conn, err := pgconn.Connect(ctx, vm.URL())
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(ctx, "select 1").ReadAll()
	return err
}
