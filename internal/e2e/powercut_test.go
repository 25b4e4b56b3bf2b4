package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/localvm"
)

// TestPowerCuts pulls the plug fifty times, at random moments under two writers, and looks for every row that the server
// had acknowledged.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	t.Run("arm64", func(t *testing.T) { cutPower(t, localvm.Options{Artifact: artifact(t, "arm64"), State: seeded(t)}, 40) })
	t.Run("amd64", func(t *testing.T) {
		cutPower(t, localvm.Options{Artifact: artifact(t, "amd64"), State: t.TempDir()}, 10)
	})
}

func cutPower(t *testing.T, options localvm.Options, cuts int) {
	const writers = 2
	random := rand.New(rand.NewPCG(1, 2))

	g := boot(t, options)
	g.ask(t, "create table ledger (writer int, n int, filler text, primary key (writer, n))")
	acknowledged := make([]atomic.Int64, writers)
	for cut := range cuts {
		stop := write(t, g, acknowledged)
		// The moment is part of what is tested: anywhere from the first commits to well into checkpoints and WAL
		// switches, which the longer ones reach.
		limit := 400
		if cut%5 == 0 {
			limit = 2000
		}
		firstRow(t, acknowledged)
		moment := time.NewTimer(time.Duration(20+random.IntN(limit)) * time.Millisecond)
		<-moment.C
		g.powerCut(t)
		stop()
		if cut%5 == 0 { // the guest does it at each boot
			fsck(t, filepath.Join(options.State, "data.img"))
		}

		g = boot(t, options)
		for writer := range writers {
			want := acknowledged[writer].Load()
			got := g.one(t, fmt.Sprintf("select count(*) from ledger where writer = %d and n <= %d", writer, want))
			if got != strconv.FormatInt(want, 10) {
				t.Fatalf("cut %d: writer %d was told that %d rows are safe, %s are there", cut+1, writer, want, got)
			}
			// A row may have been written without its writer having heard of it.
			last := g.one(t, fmt.Sprintf("select coalesce(max(n), 0) from ledger where writer = %d", writer))
			n, err := strconv.ParseInt(last, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			acknowledged[writer].Store(n)
		}
	}
	g.ask(t, "select count(*) from ledger where length(filler) <> 200; reindex table ledger")
	total := acknowledged[0].Load() + acknowledged[1].Load()
	if total < int64(cuts) {
		t.Errorf("only %d rows in all: the writers hardly ran", total)
	}
	t.Logf("%d rows over %d power cuts, none lost", total, cuts)
}

// firstRow waits until the server has acknowledged a row more.
func firstRow(t *testing.T, acknowledged []atomic.Int64) {
	t.Helper()
	rows := func() (n int64) {
		for i := range acknowledged {
			n += acknowledged[i].Load()
		}
		return n
	}
	before := rows()
	await(t, waitLimit, "a row", func() bool { return rows() > before })
}

// write starts the writers; what it returns waits until they have noticed that the server is gone.
func write(t *testing.T, g *guest, acknowledged []atomic.Int64) (wait func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for writer := range acknowledged {
		conn := g.connect(t)
		writers.Go(func() { insert(ctx, conn, writer, &acknowledged[writer]) })
	}
	return func() {
		cancel()
		writers.Wait()
	}
}

// insert writes rows, each in a transaction of its own, until the connection breaks.
func insert(ctx context.Context, conn *pgconn.PgConn, writer int, acknowledged *atomic.Int64) {
	for n := acknowledged.Load() + 1; ; n++ {
		sql := fmt.Sprintf("insert into ledger values (%d, %d, repeat('x', 200))", writer, n)
		if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
			return
		}
		acknowledged.Store(n)
	}
}
