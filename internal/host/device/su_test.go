package device

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// FuzzProbe reads a phone's answers to the probe for root.
func FuzzProbe(f *testing.F) {
	for _, seed := range []string{"root\n", "su -c", "su 0\r\n", "su: invalid uid/gid '-c'", "", "\x1b]0;pwned\x07\u009b2J\xff\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var su *shape
		var said string
		costtest.Text.Run(t, len(text), func() { su, said = readProbe(text) })
		if su != nil {
			if said != "" || shapes[strings.TrimSpace(text)] != su {
				t.Errorf("%q is %v, %q", text, su, said)
			}
			return
		}
		if strings.ContainsFunc(said, func(r rune) bool { return !strconv.IsPrint(r) }) || !utf8.ValidString(said) {
			t.Errorf("%q is reported as %q", text, said)
		}
	})
}
