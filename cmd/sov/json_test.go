package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestJSONIsDocumented verifies that the tables of docs/json.md name every command that prints
// JSON.
func TestJSONIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	named := ""
	for line := range strings.Lines(string(text)) {
		if row, ok := strings.CutPrefix(line, "| "); ok {
			verbs, _, _ := strings.Cut(row, " | ")
			named += verbs
		}
	}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		f := c.Flag("json")
		verb := strings.TrimPrefix(c.CommandPath(), "sov ")
		if f != nil && !f.Hidden && !c.HasSubCommands() && !strings.Contains(named, "`"+verb+"`") {
			t.Errorf("docs/json.md does not say what `sov %s --json` prints", verb)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
}
