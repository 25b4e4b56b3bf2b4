package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/session"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// softened lists kernel parameters that turn hardening off.
var softened = []string{"init_on_alloc=0", "init_on_free=0", "randomize_kstack_offset=off", "page_alloc.shuffle=0"}

// workloads are runs of pgbench over the Unix socket in the guest, on a database that fits in
// memory.
var workloads = []struct{ name, flags string }{
	{"read", "--select-only --client 2"},
	{"write", "--no-vacuum --client 2"},
	{"connect", "--select-only --connect --client 1"}, // a process for each transaction
}

// A contender is a machine to measure.
type contender struct {
	name, artifact, state string
	secrets               map[string]string
	figures               map[string][]float64 // by unit
}

// BenchmarkHardening measures the cost of the guest's hardening. Each round starts these machines
// in turn: the machine as built (hardened), the same machine with the kernel parameters that turn
// hardening off (softened), a machine with an encrypted data disk (encrypted), and the artifact in
// the folder $SOV_BENCH_BEFORE, if set, which must be an arm64 sql machine of another version of
// sov (before). The figures are medians. x-UNIT-of-NAME is the machine's figure divided by the
// hardened machine's in the same round.
func BenchmarkHardening(b *testing.B) {
	dir := sovtest.Artifact(b, "arm64")
	off := artifacttest.Change(b, dir, "softened", func(s *vmspec.Spec) { s.Parameters = append(s.Parameters, softened...) })
	contenders := []*contender{
		{name: "hardened", artifact: dir}, {name: "softened", artifact: off},
		{name: "encrypted", artifact: sovtest.Encrypted(b, "arm64", "phone"), secrets: map[string]string{guestspec.SecretDataKey: "a key for a benchmark"}},
	}
	if before := os.Getenv("SOV_BENCH_BEFORE"); before != "" {
		contenders = append(contenders, &contender{name: "before", artifact: before})
	}
	seed := &contender{name: "first", artifact: dir, state: guesttest.Seeded(b, "arm64")}
	seed.fill(b)
	for _, c := range contenders {
		c.state, c.figures = filepath.Join(b.TempDir(), "state"), make(map[string][]float64)
		if c.secrets != nil { // needs a separate disk
			c.fill(b)
		} else {
			guesttest.CopySparse(b, seed.state, c.state)
		}
	}
	for b.Loop() {
		for _, c := range contenders {
			c.measure(b)
		}
		// Rotate, so that no machine is always measured after the same one.
		contenders = append(contenders[1:], contenders[0])
	}
	b.ReportMetric(0, "ns/op")
	hardened := contenders[slices.IndexFunc(contenders, func(c *contender) bool { return c.name == "hardened" })]
	for _, c := range contenders {
		for unit, values := range c.figures {
			b.ReportMetric(median(values), unit+"-"+c.name)
			if c == hardened {
				continue
			}
			var ratios []float64
			for i, v := range values {
				ratios = append(ratios, v/hardened.figures[unit][i])
			}
			b.ReportMetric(median(ratios), "x-"+unit+"-of-"+c.name)
		}
	}
}

// fill creates the tables of pgbench.
func (c *contender) fill(b *testing.B) {
	b.Helper()
	c.run(b, func(vm *localvm.VM, _ *guestapi.Status) {
		inGuest(b, vm, "pgbench --initialize --quiet --scale 2 postgres")
	})
}

// run starts the machine, calls use when it is ready, and shuts it down.
func (c *contender) run(b *testing.B, use func(*localvm.VM, *guestapi.Status)) {
	b.Helper()
	console, err := os.Create(filepath.Join(b.TempDir(), "console"))
	if err != nil {
		b.Fatal(err)
	}
	defer console.Close()
	vm, err := localvm.Start(b.Context(), localvm.Options{Artifact: c.artifact, State: c.state, Secrets: c.secrets, Now: time.Now, Console: console})
	if err != nil {
		b.Fatal(err)
	}
	defer vm.Close()
	var last *guestapi.Status
	if err := vm.Ready(b.Context(), func(s *guestapi.Status) { last = s }); err != nil {
		text, _ := os.ReadFile(console.Name())
		b.Fatalf("%s: %v\n%s", c.name, err, text)
	}
	use(vm, last)
	if err := vm.Shutdown(b.Context(), 2*time.Minute); err != nil {
		b.Fatalf("%s: %v", c.name, err)
	}
}

// measure adds one figure for each unit.
func (c *contender) measure(b *testing.B) {
	b.Helper()
	add := func(unit string, value float64) { c.figures[unit] = append(c.figures[unit], value) }
	c.run(b, func(vm *localvm.VM, status *guestapi.Status) {
		for _, s := range status.Services {
			if s.Name == "postgres" {
				add("s-to-SQL", s.ReadyIn)
			}
		}
		add("MiB-in-use", float64(status.Memory.Total-status.Memory.Available)/(1<<20))
		for _, w := range workloads {
			out := inGuest(b, vm, "pgbench --time 5 "+w.flags+" postgres 2>/dev/null")
			add("tps-"+w.name, transactionsPerSecond(b, out))
		}
	})
	var line strings.Builder
	for unit, values := range c.figures {
		fmt.Fprintf(&line, "  %s %.2f", unit, values[len(values)-1])
	}
	b.Logf("%s:%s", c.name, line.String())
}

// inGuest runs a PostgreSQL command in the guest as user postgres, and returns its output.
func inGuest(b *testing.B, vm *localvm.VM, command string) string {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	conn, err := vm.Client().Session(ctx)
	if err != nil {
		b.Fatal(err)
	}
	tools := "$(dirname $(ls /usr/lib/postgresql/*/bin/pgbench /usr/libexec/postgresql*/pgbench 2>/dev/null | head -n 1))"
	script := "cd /; export PGHOST=/run/postgresql PATH=$PATH:" + tools + "; su postgres -s /bin/sh -c '" + command + "'"
	return guesttest.Script(b, ctx, session.NewConn(conn, conn, conn.Close), script)
}

// transactionsPerSecond parses pgbench's output: "tps = 123.4 (without initial connection time)".
func transactionsPerSecond(b *testing.B, out string) float64 {
	b.Helper()
	_, rest, found := strings.Cut(out, "tps = ")
	figure, _, _ := strings.Cut(rest, " ")
	value, err := strconv.ParseFloat(figure, 64)
	if !found || err != nil {
		b.Fatalf("pgbench printed:\n%s", out)
	}
	return value
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
