package slots

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// FuzzMark reads the mark of a slot. An unreadable mark makes the version a new one, never a good
// one.
func FuzzMark(f *testing.F) {
	for _, seed := range []string{`{"state":"good","since":"2026-01-02T03:04:05Z"}`, `{"state":"bad","reason":"x"}`, `{"state":"new","starts":3}`, `{"state":"empty"}`, `{"state":"good"`, "", "null", `{"state":"good","starts":1e99}`} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, markFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		var m mark
		costtest.Text.Run(t, len(text), func() { m = readMark(dir) })
		switch m.State {
		case runnerapi.SlotNew:
		case runnerapi.SlotGood, runnerapi.SlotBad:
			if err := writeMark(dir, m); err != nil {
				t.Fatalf("%q is read as %+v, which cannot be written: %v", text, m, err)
			}
			if again := readMark(dir); again.State != m.State || again.Starts != m.Starts || !again.Since.Equal(m.Since) {
				t.Errorf("%+v is read as %+v", m, again)
			}
		default:
			t.Errorf("%q makes a slot %q", text, m.State)
		}
	})
}
