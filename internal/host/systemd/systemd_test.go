package systemd

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNotify(t *testing.T) {
	l, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, messages := range [][]string{{Status("postgres is\nstarting")}, {Status("done"), Ready}} {
		if err := Notify(l.Socket(), messages...); err != nil {
			t.Fatal(err)
		}
	}
	var said []string
	if err := l.Wait(t.Context(), func(line string) { said = append(said, line) }); err != nil || !slices.Equal(said, []string{"postgres is starting", "done"}) {
		t.Errorf("%q, %v", said, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := errors.New("it ended")
	cancel(ended)
	if err := l.Wait(ctx, nil); !errors.Is(err, ended) {
		t.Errorf("%v", err)
	}
	if err := Notify("", Ready); err != nil {
		t.Errorf("without a service manager: %v", err)
	}
}

// awkward are words that require quotes in a unit.
var awkward = []string{"plain", "two words", `quo"te`, "it's", `back\slash`, "50%", "$HOME", "semi;colon", "", "tab\there", "--flag=a b"}

// TestUnit: systemd accepts the unit without a warning, and reads the command's words unchanged.
func TestUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "so v")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	u := Unit{
		Name: "sov-test", Description: "100% of sql", Command: append([]string{program}, awkward...), Environment: []string{"PATH=/a b:/bin", "X=50%"},
		Start: 90 * time.Second, Stop: 150 * time.Second,
	}
	path := filepath.Join(dir, u.File())
	if err := os.WriteFile(path, []byte(u.Text()), 0o644); err != nil {
		t.Fatal(err)
	}
	verify := exec.Command("systemd-analyze", "verify", "--man=no", "--user", path)
	verify.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
	out, err := verify.CombinedOutput()
	if err != nil || strings.Contains(string(out), u.File()) {
		t.Errorf("%v: %s\n%s", err, out, u.Text())
	}
}

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{
		"plain": "plain", "two words": `"two words"`, `quo"te`: `"quo\"te"`, "it's": `"it's"`, `back\slash`: `"back\\slash"`, "50%": "50%%", "$HOME": "$$HOME",
		"": `""`, "tab\there": `"tab\there"`, "line\nbreak": `"line\nbreak"`, ";": `";"`,
	} {
		if got := quote(word, true); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
	if got := quote("A=$B", false); got != "A=$B" {
		t.Errorf("a variable's value: %s", got)
	}
}
