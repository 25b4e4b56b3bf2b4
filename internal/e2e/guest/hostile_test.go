package guest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/session"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestHostileService lets a service of a recipe that was broken into try everything that no service needs: it fails, and SQL and the
// endpoint answer all the while.
func TestHostileService(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "attack")
	compile := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, "../../testkit/hostile")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	g := guesttest.Boot(t, guesttest.EveryService(t, 512))
	upload(t, g, program, "/run/hostile/attack")
	restarts := guesttest.Restarts(t, g)
	stop := probe(t, g)
	defer stop()

	for _, line := range attack(t, g, "all "+postmaster(t, g)) {
		if what, failed, _ := strings.Cut(line, "\t"); failed == "<nil>" {
			t.Errorf("a service may: %s", what)
		} else {
			t.Logf("%s: %s", what, failed)
		}
	}
	stop()
	for name, n := range guesttest.Restarts(t, g) {
		if n != restarts[name] && name != "hostile" {
			t.Errorf("%s was started again", name)
		}
	}
}

// attack has the hostile service run the program, and returns what it printed.
func attack(t *testing.T, g *guesttest.Guest, arguments string) []string {
	t.Helper()
	guesttest.Hostile(t, g, "rm -f /run/hostile/out; /run/hostile/attack "+arguments+" >/run/hostile/printing 2>&1; mv /run/hostile/printing /run/hostile/out")
	return g.Shell(t, "until test -e /run/hostile/out; do sleep 0.2; done; cat /run/hostile/out")
}

// postmaster is the number of PostgreSQL's main process.
func postmaster(t *testing.T, g *guesttest.Guest) string {
	t.Helper()
	return strconv.Itoa(guesttest.EveryProcess(t, g, "at first", "session")["postmaster"])
}

// upload copies a program into the guest.
func upload(t *testing.T, g *guesttest.Guest, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), sovtest.WaitLimit)
	defer cancel()
	conn, err := g.Client().Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	start := session.Start{Command: []string{"/bin/sh", "-c", fmt.Sprintf("cat >%s && chmod 755 %[1]s", to)}, Caller: "test"}
	exit, err := session.Run(ctx, session.NewConn(conn, conn, conn.Close), start, session.Streams{In: bytes.NewReader(text), Out: &said, Errors: &said})
	if err != nil || exit.Status != 0 {
		t.Fatalf("upload: %+v, %v: %s", exit, err, said.String())
	}
}

// probeLimit bounds what SQL and the endpoint take for an answer, on a computer that emulates the guest's processor.
const probeLimit = 20 * time.Second

// probe asks SQL and the endpoint until stop is called, which reports how long the slowest answer took.
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
				func(ctx context.Context) error { _, err := g.Status(ctx); return err },
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
		}
		t.Logf("asked %d times: SQL was answered within %s, status within %s", asked, slowest[0], slowest[1])
	}()
	return func() { cancel(); <-done }
}

// answersSQL asks SQL over a new connection.
func answersSQL(ctx context.Context, vm *localvm.VM) error {
	conn, err := pgconn.Connect(ctx, vm.URL())
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(ctx, "select 1").ReadAll()
	return err
}
