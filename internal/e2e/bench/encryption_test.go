package bench

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/session"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// BenchmarkEncryption measures starts and pgbench's transactions on a plain and on an encrypted data disk, in turns.
func BenchmarkEncryption(b *testing.B) {
	for _, c := range []struct{ name, artifact string }{
		{"plain", sovtest.Artifact(b, "arm64")}, {"encrypted", sovtest.Encrypted(b, "arm64", "phone")},
	} {
		b.Run(c.name, func(b *testing.B) {
			options := localvm.Options{Artifact: c.artifact, State: b.TempDir(), Now: time.Now, Secrets: map[string]string{guestspec.SecretDataKey: "a key for a benchmark"}}
			b.ReportMetric(benchLife(b, options, nil), "s/first-start")
			tps := 0.0
			b.ReportMetric(benchLife(b, options, func(vm *localvm.VM) { tps = pgbench(b, vm) }), "s/start")
			b.ReportMetric(tps, "transactions/s")
			b.ReportMetric(0, "ns/op")
			for b.Loop() { // all was measured above
			}
		})
	}
}

// benchLife starts a machine, does something with it, stops it, and returns the seconds from QEMU's start until every service was ready.
func benchLife(b *testing.B, o localvm.Options, do func(*localvm.VM)) float64 {
	b.Helper()
	start := time.Now()
	vm, err := localvm.Start(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	defer vm.Close()
	if err := vm.Ready(b.Context(), nil); err != nil {
		b.Fatal(err)
	}
	took := time.Since(start)
	if do != nil {
		do(vm)
	}
	if err := vm.Shutdown(b.Context(), 2*time.Minute); err != nil {
		b.Fatal(err)
	}
	return took.Seconds()
}

var tpsLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// pgbench runs pgbench in the guest, over the server's socket, and returns its transactions per second.
func pgbench(b *testing.B, vm *localvm.VM) float64 {
	b.Helper()
	conn, err := vm.Client().Session(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	said := guesttest.Script(b, b.Context(), session.NewConn(conn, conn, conn.Close),
		`su -s /bin/sh postgres -c 'pgbench -h /run/postgresql -i -s 2 -q postgres && pgbench -h /run/postgresql -c 4 -T 20 postgres' 2>&1`)
	match := tpsLine.FindStringSubmatch(said)
	if match == nil {
		b.Fatalf("pgbench: %s", said)
	}
	tps, err := strconv.ParseFloat(match[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return tps
}
