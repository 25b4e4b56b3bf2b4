package daemon

import (
	"os"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
)

// The data disk is made once, enlarged where it should be larger, and never made smaller.
func TestEnsureData(t *testing.T) {
	vm := newVM(t)
	for _, tt := range []struct{ ask, want int64 }{{256 << 20, 256 << 20}, {1 << 30, 1 << 30}, {256 << 20, 1 << 30}} {
		var said []string
		if err := ensureData(t.Context(), vm, vmspec.Disk{Size: tt.ask}, func(s string) { said = append(said, s) }); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(vm.Data())
		if err != nil || info.Size() != tt.want {
			t.Errorf("asked for %d bytes: %d, %v, want %d", tt.ask, info.Size(), err, tt.want)
		}
		if changed := strings.Join(said, "; "); (tt.ask == tt.want) != (changed != "") {
			t.Errorf("asked for %d bytes, it said %q", tt.ask, changed)
		}
	}
}

func TestSpaceWarnings(t *testing.T) {
	for _, tt := range []struct {
		free, needs int64
		warns       bool
	}{
		{100 << 30, 8 << 30, false},
		{600 << 20, 8 << 30, false},
		{500 << 20, 8 << 30, true},
		{100 << 20, 50 << 20, false}, // it cannot grow by more
		{0, 0, false},
		{0, 1, true},
	} {
		if got := spaceWarnings(tt.free, tt.needs); (got != nil) != tt.warns {
			t.Errorf("%d MiB free, %d MiB needed: %q", tt.free>>20, tt.needs>>20, got)
		}
	}
	vm := newVM(t)
	if _, err := phoneSpace(vm.Data()); err == nil {
		t.Error("a disk that is not there")
	}
	if err := ensureData(t.Context(), vm, vmspec.Disk{Size: 256 << 20}, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := phoneSpace(vm.Data()); err != nil {
		t.Error(err)
	}
}
