package runner

import (
	"os"
	"strings"
	"testing"
)

// The data disk is made once, enlarged where it should be larger, and never made smaller.
func TestEnsureData(t *testing.T) {
	vm := newVM(t)
	for _, tt := range []struct{ ask, want int64 }{{256 << 20, 256 << 20}, {1 << 30, 1 << 30}, {256 << 20, 1 << 30}} {
		var said []string
		if err := ensureData(t.Context(), vm, tt.ask, func(s string) { said = append(said, s) }); err != nil {
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
