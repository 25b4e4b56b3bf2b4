package guest

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
)

// TestFullHostDisk fills this computer's disk while the guest writes to its data disk.
func TestFullHostDisk(t *testing.T) {
	t.Parallel()
	guesttest.FullHostDisk(t)
}
