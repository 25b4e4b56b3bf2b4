package internal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDependabot: every module of the repository gets updates, except for those in testdata.
func TestDependabot(t *testing.T) {
	text, err := os.ReadFile("../.github/dependabot.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range modules(t) {
		folder, err := filepath.Rel("..", dir)
		if err != nil {
			t.Fatal(err)
		}
		folder = strings.TrimPrefix("/"+folder, "/.")
		if folder == "" {
			folder = "/"
		}
		if !strings.Contains(folder, "/testdata/") && !strings.Contains(string(text), `"`+folder+`"`) {
			t.Errorf(".github/dependabot.yml does not list %s", folder)
		}
	}
}
