package endurance

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestParallelIndexInASmallMachine builds an index by parallel workers in a machine of 128 MiB,
// with more and more memory for them: it is built, or PostgreSQL says why not. The server stays up,
// and so do the rows.
func TestParallelIndexInASmallMachine(t *testing.T) {
	t.Parallel()
	g := guesttest.Boot(t, localvm.Options{Artifact: sovtest.Variant(t, "amd64", "128MiB", "vm: {memory: 128MiB}"), State: t.TempDir()})
	const postmaster = "select split_part(pg_read_file('postmaster.pid'), e'\\n', 1)"
	pid := g.One(t, postmaster)
	g.Ask(t, "create table wide as select n, repeat(md5(n::text), 6) t from generate_series(1, 300000) n; alter table wide set (parallel_workers = 4)")
	ctx, cancel := context.WithTimeout(t.Context(), 5*sovtest.WaitLimit)
	defer cancel()
	built := 0
	for _, memory := range []string{"8MB", "64MB", "160MB", "256MB", "1GB"} {
		conn := g.Connect(t)
		_, err := conn.Exec(ctx, "set max_parallel_maintenance_workers = 4; set maintenance_work_mem = '"+memory+"'; create index on wide (t, n)").ReadAll()
		t.Logf("maintenance_work_mem = %s: %v", memory, err)
		var said *pgconn.PgError
		switch {
		case err == nil:
			built++
		// Insufficient resources; the crash of another process of the server, which the kernel has
		// ended for its memory; and what a client sees of its own process's.
		case errors.As(err, &said) && (strings.HasPrefix(said.Code, "53") || said.Code == "57P02"), errors.Is(err, io.ErrUnexpectedEOF):
		default:
			t.Errorf("maintenance_work_mem = %s: %v", memory, err)
		}
		guesttest.AwaitAll(t, g, func(guestapi.Service) bool { return true })
		if now := g.One(t, postmaster); now != pid {
			t.Errorf("maintenance_work_mem = %s: process %s is the server now, and was %s", memory, now, pid)
		}
		if rows := g.One(t, "select count(*) from wide where t is not null"); rows != "300000" {
			t.Errorf("maintenance_work_mem = %s: there are %s rows", memory, rows)
		}
	}
	if built == 0 {
		t.Error("no index was built")
	}
}
