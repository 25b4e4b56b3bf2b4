package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// A parallel hash join: its workers build one shared hash table in dynamic shared memory.
const (
	joinTables = `create unlogged table a as select n, repeat('x', 40) as filler from generate_series(1, 100000) n;
create unlogged table b as select n, repeat('y', 40) as filler from generate_series(1, 100000) n;
analyze`
	joinSettings = `set max_parallel_workers_per_gather = 2; set parallel_setup_cost = 0; set parallel_tuple_cost = 0;
set min_parallel_table_scan_size = 0; set enable_mergejoin = off; set enable_nestloop = off; set work_mem = '64MB'`
	join = `select count(*), max(length(a.filler || b.filler)) from a join b using (n)`
)

// BenchmarkSharedMemory measures a parallel query with PostgreSQL's dynamic shared memory on a
// tmpfs, as in the guest, and in files on the data disk, the default for dynamic_shared_memory_type
// = mmap.
func BenchmarkSharedMemory(b *testing.B) {
	dir := sovtest.Artifact(b, "arm64")
	for _, c := range []struct{ name, artifact string }{{"tmpfs", dir}, {"data-disk", withoutTmpfs(b, dir)}} {
		b.Run(c.name, func(b *testing.B) { benchJoin(b, c.artifact) })
	}
}

func benchJoin(b *testing.B, dir string) {
	vm, err := localvm.Start(b.Context(), localvm.Options{Artifact: dir, State: guesttest.Seeded(b, "arm64"), Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	defer vm.Close()
	if err := vm.Ready(b.Context(), nil); err != nil {
		b.Fatal(err)
	}
	conn, err := pgconn.Connect(b.Context(), vm.URL())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	ask := func(sql string) []byte {
		results, err := conn.Exec(b.Context(), sql).ReadAll()
		if err != nil {
			b.Fatalf("%s: %v", sql, err)
		}
		var rows [][]byte
		for _, row := range results[len(results)-1].Rows {
			rows = append(rows, row[0])
		}
		return bytes.Join(rows, []byte("\n"))
	}
	ask(joinTables)
	ask(joinSettings)
	if plan := ask("explain " + join); !bytes.Contains(plan, []byte("Parallel Hash Join")) {
		b.Fatalf("the join is not parallel:\n%s", plan)
	}
	for b.Loop() {
		if got := string(ask(join)); got != "100000" {
			b.Fatalf("the join has %s rows", got)
		}
	}
}

// withoutTmpfs returns a copy of the artifact that mounts nothing on pg_dynshmem.
func withoutTmpfs(b *testing.B, dir string) string {
	b.Helper()
	out := withRootfs(b, dir, unmountTmpfs)
	for _, name := range []string{"vm.json", "kernel"} {
		from, err := filepath.Abs(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		if err := os.Symlink(from, filepath.Join(out, name)); err != nil {
			b.Fatal(err)
		}
	}
	return out
}

// unmountTmpfs removes the tmpfs from the service postgres.
func unmountTmpfs(t *tree.Tree) error {
	path := strings.TrimPrefix(guestspec.ServicesDir, "/") + "/postgres.json"
	n, ok := t.Lookup(path)
	if !ok {
		return fmt.Errorf("the image has no %s", path)
	}
	var service map[string]any
	if err := json.NewDecoder(n.Content.Open()).Decode(&service); err != nil {
		return err
	}
	if service["tmpfs"] == nil {
		return fmt.Errorf("%s mounts no tmpfs", path)
	}
	delete(service, "tmpfs")
	text, err := json.Marshal(service)
	if err != nil {
		return err
	}
	changed := *n
	changed.Content = tree.Bytes(text)
	return t.Put(path, &changed)
}
