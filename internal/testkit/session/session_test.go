package session

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
)

// testing.TB implements T.
var _ T = testing.TB(nil)

// TestRun checks that the Cleanup functions run however a session ends, the last one first, with a
// context that is done.
func TestRun(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(T)
		want string // error
	}{
		"returns":            {func(T) {}, ""},
		"fails":              {func(s T) { s.Fatalf("%s: %w", "one", os.ErrNotExist) }, "one: file does not exist"},
		"is skipped":         {func(s T) { s.Skip("needs ", 2) }, "needs 2"},
		"fails at its end":   {func(s T) { s.Cleanup(func() { s.Fatal("late") }) }, "late"},
		"fails twice":        {func(s T) { s.Cleanup(func() { s.Fatal("late") }); s.Fatal("early") }, "early\nlate"},
		"adds at the end":    {func(s T) { s.Cleanup(func() { s.Cleanup(func() { s.Fatal("nested") }) }) }, "nested"},
		"is a context's end": {func(s T) { s.Cleanup(func() { s.Fatal(s.Context().Err()) }) }, "context canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			var order []int
			var dir string
			err := Run(context.Background(), func(s T) {
				s.Cleanup(func() { order = append(order, 1) })
				dir = s.TempDir()
				s.Cleanup(func() { order = append(order, 2) })
				tt.do(s)
			})
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("error %q, want %q", got, tt.want)
			}
			if !slices.Equal(order, []int{2, 1}) {
				t.Errorf("order %v", order)
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the folder is left: %v", err)
			}
		})
	}
}
