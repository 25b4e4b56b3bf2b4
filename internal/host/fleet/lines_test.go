package fleet

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// FuzzLineWriter: a terminal gets whole lines without control characters, whatever a phone sends
// and however it is split.
func FuzzLineWriter(f *testing.F) {
	f.Add("plain\n\x1b[31mred\x1b[0m\r\n", 3)
	f.Add("\x9b2J\x00\xff\u202etext", 1)
	f.Fuzz(func(t *testing.T, text string, size int) {
		defer costtest.Text.Watch(t, len(text))()
		var out bytes.Buffer
		w := &lineWriter{to: &out, prefix: "phone: "}
		for rest := []byte(text); len(rest) > 0; {
			n := min(max(size, 1), len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		w.flush()
		for line := range strings.Lines(out.String()) {
			if !strings.HasPrefix(line, "phone: ") || !utf8.ValidString(line) || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r != '\t' && !strconv.IsPrint(r) }) {
				t.Errorf("%q became %q", text, line)
			}
		}
	})
}
