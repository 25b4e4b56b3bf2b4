package guest

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestDiskImage boots a disk image with OVMF and runs SQL. The endurance tests boot from other
// buses, on arm64 and a second time.
func TestDiskImage(t *testing.T) {
	t.Parallel()
	guesttest.DiskImage(t, sovtest.Artifact(t, "amd64"), "amd64", guesttest.VirtioBlock, false)
}
