package built

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRunFindsWhatBuildMade: Dir returns the folder of the recipe's name, whatever the name of the
// recipe's file.
func TestRunFindsWhatBuildMade(t *testing.T) {
	dir := t.TempDir()
	recipe := filepath.Join(dir, "mine.yaml")
	text := "name: other\nversion: \"1\"\nbase:\n  image: docker.io/library/alpine:3.22\n"
	if err := os.WriteFile(recipe, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ recipe, want string }{
		{recipe, "out/other/arm64"}, {"sql", "out/sql/arm64"},
	} {
		if got, err := Dir(test.recipe, "out", "arm64"); err != nil || got != test.want {
			t.Errorf("%s: %s, %v; want %s", test.recipe, got, err, test.want)
		}
	}
	if _, err := Dir(dir, "out", "arm64"); err == nil || !strings.Contains(err.Error(), "vm.json") {
		t.Errorf("a folder without a machine: %v", err)
	}
	built := filepath.Join(dir, "out", "other", "arm64")
	if err := os.MkdirAll(built, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := Dir("other", filepath.Join(dir, "out"), "arm64"); err != nil || got != built {
		t.Errorf("by the name of what was built: %s, %v", got, err)
	}
	if _, err := Dir("another", filepath.Join(dir, "out"), "arm64"); err == nil || !strings.Contains(err.Error(), "nor a recipe") {
		t.Errorf("a name of nothing: %v", err)
	}
}
