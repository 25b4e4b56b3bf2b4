package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHelpTexts compares help texts that were hard to read with testdata/help, so that a change of
// them is reviewed.
func TestHelpTexts(t *testing.T) {
	var text strings.Builder
	for _, verb := range []string{"exec", "init", "publish", "pull", "push", "restore", "run", "secrets list", "secrets set", "shell", "verify"} {
		c, rest, err := newRoot().Find(strings.Fields(verb))
		if err != nil || len(rest) > 0 {
			t.Fatalf("there is no verb %s: %v", verb, err)
		}
		text.WriteString("# sov " + verb + ": " + c.Short + "\n\n" + c.Long + "\n\n")
	}
	path := filepath.Join(packageDir, "testdata", "help")
	if *update {
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("%s differs: read the help aloud, then go test ./cmd/sov -run TestHelpTexts -update", path)
	}
}
