package durable

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSystemCalls records the system calls and their order with strace: without a power cut, no
// other test can detect a missing sync.
func TestSystemCalls(t *testing.T) {
	if os.Getenv("DURABLE_TRACED") != "" {
		dir := os.Getenv("DURABLE_TRACED")
		check := func(err error) {
			if err != nil {
				t.Error(err)
			}
		}
		check(MkdirAll(filepath.Join(dir, "a", "b"), 0o700))
		check(WriteFile(filepath.Join(dir, "a", "b", "one"), []byte("1"), 0o644))
		check(WriteFile(filepath.Join(dir, "a", "b", "two"), []byte("2"), 0o600, KeepExisting()))
		check(WriteFile(filepath.Join(dir, "a", "b", "lax"), []byte("3"), 0o600, NoSync()))
		check(Rename(filepath.Join(dir, "a", "b", "one"), filepath.Join(dir, "a", "one")))
		check(Exchange(filepath.Join(dir, "a", "one"), filepath.Join(dir, "a", "b", "two")))
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	dir := t.TempDir()
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-y", "-o", trace,
		"-e", "trace=/^(mkdir|rename|link|unlink|fsync|fdatasync|fchmod|write).*", os.Args[0], "-test.run=^TestSystemCalls$")
	cmd.Env = append(os.Environ(), "DURABLE_TRACED="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("strace cannot trace here: %v\n%s", err, out)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	got := calls(string(text), dir)
	want := []string{
		"mkdir /a", "fsync /", "mkdir /a/b", "fsync /a",
		"write /a/b/.one.new-N", "fchmod /a/b/.one.new-N", "fsync /a/b/.one.new-N", "rename /a/b/.one.new-N /a/b/one", "fsync /a/b",
		"write /a/b/.two.new-N", "fsync /a/b/.two.new-N", "link /a/b/.two.new-N /a/b/two", "unlink /a/b/.two.new-N", "fsync /a/b",
		"write /a/b/.lax.new-N", "rename /a/b/.lax.new-N /a/b/lax",
		"rename /a/b/one /a/one", "fsync /a", "fsync /a/b",
		"rename /a/one /a/b/two", "fsync /a", "fsync /a/b",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the system calls are\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

var (
	callPattern  = regexp.MustCompile(`^\d+ +([a-z]+)[0-9a-z]*\((.*)\) += 0|^\d+ +(write)\((.*)\) += \d`)
	digitPattern = regexp.MustCompile(`\.new-\d+`)
)

// calls returns the system calls on files in dir, with names relative to it.
func calls(trace, dir string) (list []string) {
	place := regexp.MustCompile(`[<"]` + regexp.QuoteMeta(dir) + `([^>"]*)[>"]`)
	for line := range strings.Lines(trace) {
		m := callPattern.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		name := strings.TrimSuffix(m[1]+m[3], "at")
		var names []string
		for _, p := range place.FindAllStringSubmatch(m[2]+m[4], -1) {
			names = append(names, digitPattern.ReplaceAllString(filepath.Clean("/"+p[1]), ".new-N"))
		}
		if len(names) > 0 {
			list = append(list, fmt.Sprint(name, " ", strings.Join(names, " ")))
		}
	}
	return list
}
