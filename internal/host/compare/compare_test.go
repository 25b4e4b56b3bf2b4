package compare

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/taken"
)

func TestFirstDifference(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	for _, tt := range []struct {
		a, b string
		want int64 // -1: the texts are equal
	}{
		{"", "", -1}, {"abc", "abc", -1}, {long, long, -1}, {"abc", "abd", 2}, {"abc", "ab", 2}, {"", "a", 0},
		{long, long + "x", 300 << 10}, {long + "a", long + "b", 300 << 10}, {"y" + long, "z" + long, 0}, {long[:256<<10], long, 256 << 10},
	} {
		at, err := firstDifference(t.Context(), strings.NewReader(tt.a), strings.NewReader(tt.b))
		got := int64(-1)
		if at != nil {
			got = *at
		}
		if err != nil || got != tt.want {
			t.Errorf("%d and %d bytes: got %d, %v, want %d", len(tt.a), len(tt.b), got, err, tt.want)
		}
	}
}

// TestTakenFrom: two artifacts are identical even if one was built with results from a cache.
func TestTakenFrom(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		if err := os.WriteFile(filepath.Join(dir, "vm.json"), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := taken.Write(a, []taken.Result{{Stage: "kernel", Remote: "registry.example.com/cache"}}); err != nil {
		t.Fatal(err)
	}
	if r, err := Artifacts(t.Context(), a, b); err != nil || !r.Identical {
		t.Errorf("%+v, %v", r, err)
	}
}
