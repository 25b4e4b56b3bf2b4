package terminal

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func TestWriter(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext, é und 漢字\n":              "plain\ttext, é und 漢字\n",
		"two\n\nlines":                         "two\n\nlines",
		"dos\r\n":                              "dos\n",
		"title \x1b]0;pwned\x07\n":             `title \x1b]0;pwned\a` + "\n",
		"\x1b[31mred\x1b[0m\n":                 "red\n",
		"over\rwritten":                        `over\rwritten`,
		"\u009b2J and \x9b2J":                  `\u009b2J and ` + "\ufffd2J",
		"turned \u202egnp.exe":                 `turned \u202egnp.exe`,
		"clipboard \x1b]52;c;cm0gLXJm\x1b\\\n": `clipboard \x1b]52;c;cm0gLXJm\x1b\` + "\n",
	} {
		for size := 1; size <= len(in); size++ {
			var out bytes.Buffer
			w := NewWriter(&out)
			for rest := []byte(in); len(rest) > 0; {
				n := min(size, len(rest))
				if k, err := w.Write(rest[:n]); k != n || err != nil {
					t.Fatal(k, err)
				}
				rest = rest[n:]
			}
			if size == len(in) && out.String() != want {
				t.Errorf("%q became %q, want %q", in, &out, want)
			}
			checkHarmless(t, out.String())
		}
	}
}

func checkHarmless(t *testing.T, text string) {
	t.Helper()
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && !strconv.IsPrint(r) }) {
		t.Errorf("a terminal gets %q", text)
	}
}

func FuzzWriter(f *testing.F) {
	f.Add("plain\n\x1b[31mred\x1b[0m\r\n", 3)
	f.Add("\x9b2J\x00\xff\u202etext", 1)
	f.Fuzz(func(t *testing.T, text string, size int) {
		var out bytes.Buffer
		costtest.Text.Run(t, len(text)*8, func() {
			w := NewWriter(&out)
			for rest := []byte(text); len(rest) > 0; {
				n := min(max(size, 1), len(rest))
				if _, err := w.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
		})
		checkHarmless(t, out.String())
		costtest.Budget{Base: 16, Ratio: 12}.Output(t, len(text), int64(out.Len()))
	})
}

func TestForScreen(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if ForScreen(file) != file {
		t.Error("what goes into a file is changed")
	}
	if Raw(NewWriter(file)) != file || Raw(file) != file {
		t.Error("Raw does not return the file")
	}
}
