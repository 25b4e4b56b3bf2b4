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

// TestParallelIndexInASmallMachine builds an index with parallel workers in a machine of 128 MiB.
// If PostgreSQL cannot build it, the error must give the reason. The server must keep running
// and keep every row.
func TestParallelIndexInASmallMachine(t *testing.T) {
	t.Parallel()
	g := guesttest.Boot(t, localvm.Options{Artifact: sovtest.Variant(t, "arm64", "128MiB", "vm: {memory: 128MiB}"), State: t.TempDir(), CPUs: 1})
	const postmaster = "select split_part(pg_read_file('postmaster.pid'), e'\\n', 1)"
	pid := g.One(t, postmaster)
	g.Ask(t, "create table wide as select n, repeat(md5(n::text), 6) t from generate_series(1, 60000) n; alter table wide set (parallel_workers = 4)")
	ctx, cancel := context.WithTimeout(t.Context(), 2*sovtest.WaitLimit)
	defer cancel()
	// Each process of the build needs 32 MB of maintenance_work_mem (PostgreSQL's manual): 64 MB
	// suffices for one worker, and 160 MB for four.
	for _, memory := range []string{"64MB", "160MB"} {
		conn := g.Connect(t)
		_, err := conn.Exec(ctx, "set max_parallel_maintenance_workers = 4; set maintenance_work_mem = '"+memory+"'; create index on wide (t, n)").ReadAll()
		t.Logf("maintenance_work_mem = %s: %v", memory, err)
		var refused *pgconn.PgError
		switch {
		case err == nil:
		// Accepted: insufficient resources (class 53), the crash of another session (57P02), or the
		// end of this session because the kernel has killed its process for its memory.
		case errors.As(err, &refused) && (strings.HasPrefix(refused.Code, "53") || refused.Code == "57P02"), errors.Is(err, io.ErrUnexpectedEOF):
		default:
			t.Errorf("maintenance_work_mem = %s: %v", memory, err)
		}
		guesttest.AwaitAll(t, g, func(guestapi.Service) bool { return true })
		if now := g.One(t, postmaster); now != pid {
			t.Errorf("maintenance_work_mem = %s: the server's process is %s, was %s", memory, now, pid)
		}
		if rows := g.One(t, "select count(*) from wide where t is not null"); rows != "60000" {
			t.Errorf("maintenance_work_mem = %s: there are %s rows", memory, rows)
		}
	}
}
