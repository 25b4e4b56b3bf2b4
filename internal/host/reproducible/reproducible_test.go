package reproducible

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompareAll(t *testing.T) {
	artifact := func(files map[string]string) string {
		t.Helper()
		dir := t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	one, two := artifact(map[string]string{"kernel": "k"}), artifact(map[string]string{"kernel": "k"})
	other := artifact(map[string]string{"kernel": "l"})
	signed := artifact(map[string]string{"kernel": "k", "signature": "s"})
	if r, err := compareAll(t.Context(), "work", signed, []string{one, two}); err != nil || !r.Identical || r.Kept != "" {
		t.Errorf("a signature beside: %+v, %v", r, err)
	}
	r, err := compareAll(t.Context(), "work", one, []string{two, other})
	if err != nil || r.Identical || r.Kept != "work" || r.Between != "two builds from nothing" || *r.Diff.Files[0].At != 0 {
		t.Errorf("two that differ: %+v, %v", r, err)
	}
	if r, err := compareAll(t.Context(), "work", other, []string{one, two}); err != nil || r.Identical || !strings.Contains(r.Between, other) {
		t.Errorf("the cache's differs: %+v, %v", r, err)
	}
}
