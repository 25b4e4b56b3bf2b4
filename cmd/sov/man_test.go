package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

func TestPage(t *testing.T) {
	root := &cobra.Command{Use: "sov", Version: "v1.2.3"}
	c := &cobra.Command{Use: "dance PARTNER", Short: "Turn around", Example: "  sov dance sql",
		Long: "Turn\n.around with a \\ in hand.\n\n'Twice':\n  left-hand\n  right", Run: func(*cobra.Command, []string) {}}
	c.Flags().BoolP("slow", "s", false, "take your time")
	root.AddCommand(c)
	want := `.TH SOV\-DANCE 1 "" "sov v1.2.3" "sov"
.SH NAME
sov\-dance \- Turn around
.SH SYNOPSIS
sov dance PARTNER [flags]
.SH DESCRIPTION
Turn
\&.around with a \e in hand.
.PP
.nf
\&'Twice':
  left\-hand
  right
.fi
.SH OPTIONS
.nf
  \-s, \-\-slow   take your time
.fi
.SH EXAMPLES
.nf
  sov dance sql
.fi
.SH "EXIT STATUS"
0 done, 1 failed, 2 wrong usage, 3 a check found something
.SH "SEE ALSO"
.BR sov (1)
`
	if diff := cmp.Diff(want, page(c)); diff != "" {
		t.Error(diff)
	}
}

// TestManualPages verifies that each command in the help has a page and that its parent's page
// refers to it.
func TestManualPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "man1")
	if _, stderr, status := cli(t, "man", dir); status != exitDone {
		t.Fatal(stderr)
	}
	for _, name := range []string{"sov", "sov-build", "sov-cache-ls", "sov-key-new"} {
		text, err := os.ReadFile(filepath.Join(dir, name+".1"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if to, ok := strings.CutPrefix(line, ".BR "); ok {
				to = strings.ReplaceAll(strings.Fields(to)[0], `\-`, "-")
				if _, err := os.Stat(filepath.Join(dir, to+".1")); err != nil {
					t.Errorf("%s(1) refers to a page that does not exist: %v", name, err)
				}
			}
		}
	}
}
