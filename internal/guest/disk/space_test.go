//go:build linux

package disk

import (
	"strings"
	"testing"
)

func TestSpaceWarning(t *testing.T) {
	const gib = 1 << 30
	for _, tt := range []struct {
		size, free int64
		want       string
	}{
		{0, 0, ""}, // not mounted
		{8 * gib, 4 * gib, ""},
		{8 * gib, 513 << 20, ""},
		{8 * gib, 511 << 20, "nearly full: 511 MiB of 8192 MiB are free"},
		{256 << 20, 40 << 20, ""},
		{512 << 20, 50 << 20, "nearly full"},
		{8 * gib, 31 << 20, "is full: 31 MiB"},
	} {
		got := (&Data{}).spaceWarning(tt.size, tt.free)
		if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%d of %d free: %q, want %q", tt.free, tt.size, got, tt.want)
		}
	}
}
