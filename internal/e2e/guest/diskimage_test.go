package guest

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestDiskImage boots a disk image by OVMF to SQL. Other buses, arm64 and a second start are for
// endurance.
func TestDiskImage(t *testing.T) {
	t.Parallel()
	guesttest.DiskImage(t, sovtest.Artifact(t, "amd64"), "amd64", guesttest.VirtioBlock, false)
}
