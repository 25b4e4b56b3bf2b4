package guest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/await"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestDataDisk enlarges a data disk and fills it until PostgreSQL cannot write. The status must
// warn before that, acknowledged rows must be kept, and the server must recover when there is space
// again.
func TestDataDisk(t *testing.T) {
	t.Parallel()
	options := localvm.Options{Artifact: sovtest.Artifact(t, "arm64"), State: guesttest.Seeded(t, "arm64")}
	image := filepath.Join(options.State, "data.img")
	g := guesttest.Boot(t, options)
	small := dataOf(t, g).Size
	g.Ask(t, "create table kept (n int); insert into kept select generate_series(1, 1000)")
	g.Stop(t)
	g.CutPower(t) // releases the data disk

	if err := os.Truncate(image, 20<<30); err != nil {
		t.Fatal(err)
	}
	g = guesttest.Boot(t, options)
	until(t, g, "larger", func(d guestapi.Data) bool { return d.Size > small+11<<30 })
	if got := g.One(t, "select sum(n) from kept"); got != "500500" {
		t.Errorf("the rows sum up to %s in the larger file system", got)
	}
	fill(t, g)
	g.Stop(t)
	g.CutPower(t)
	guesttest.Fsck(t, image)
}

// TestDataDiskGrowsUnderWriter enlarges data disks while the guest writes to them.
func TestDataDiskGrowsUnderWriter(t *testing.T) {
	t.Parallel()
	guesttest.GrowUnderWriter(t, guesttest.Growths())
}

// fill leaves little free space, writes until it is used, frees it and waits until the server is
// ready.
func fill(t *testing.T, g *guesttest.Guest) {
	t.Helper()
	const ballast, left = "/data/postgres/ballast", 60 << 20
	if d := dataOf(t, g); d.Warning != "" {
		t.Errorf("before it fills up: %s", d.Warning)
	}
	g.Shell(t, fmt.Sprintf("fallocate -l %d %s", dataOf(t, g).Free-left, ballast))
	if d := dataOf(t, g); !strings.Contains(d.Warning, "nearly full") {
		t.Errorf("with %d MiB left the status warns %q", d.Free>>20, d.Warning)
	}
	g.Ask(t, "create table filler (n int, text text)")
	acknowledged := writeUntilFull(t, g)
	if acknowledged < 1 {
		t.Error("nothing could be written with room left")
	}
	until(t, g, "told to be full", func(d guestapi.Data) bool { return strings.Contains(d.Warning, "is full") })
	g.Shell(t, "rm "+ballast)
	until(t, g, "emptied", func(d guestapi.Data) bool { return d.Warning == "" })
	if err := g.Ready(t.Context(), nil); err != nil {
		t.Fatalf("after there was room again: %v\n%s", err, g.Log(t))
	}
	if got, err := strconv.Atoi(g.One(t, "select count(*) from filler")); err != nil || got < acknowledged {
		t.Errorf("%d rows are there, %d were acknowledged, %v", got, acknowledged, err)
	}
	g.Ask(t, "insert into filler values (0, 'again')")
}

// writeUntilFull inserts rows of a megabyte until the server fails, and returns the number of
// acknowledged rows.
func writeUntilFull(t *testing.T, g *guesttest.Guest) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sovtest.WaitLimit)
	defer cancel()
	conn, err := pgconn.Connect(ctx, g.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	// Random digits, because repeated text would be compressed.
	const insert = "insert into filler select %d, string_agg(md5(random()::text), '') from generate_series(1, 32768)"
	for n := range 1000 {
		if _, err := conn.Exec(ctx, fmt.Sprintf(insert, n)).ReadAll(); err != nil {
			t.Logf("after %d rows: %v", n, err)
			return n
		}
	}
	t.Fatal("a full disk takes everything")
	return 0
}

func dataOf(t *testing.T, g *guesttest.Guest) guestapi.Data {
	t.Helper()
	status, err := g.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status.Data
}

// until waits until holds accepts the status of the data disk.
func until(t *testing.T, g *guesttest.Guest, what string, holds func(guestapi.Data) bool) {
	t.Helper()
	if !await.Until(sovtest.WaitLimit, 50*time.Millisecond, func() bool { return holds(dataOf(t, g)) }) {
		t.Fatalf("the data disk is not %s: %+v\n%s", what, dataOf(t, g), g.Log(t))
	}
}
