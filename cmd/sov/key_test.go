package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
)

func TestKeys(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("HOME", dir)
	if _, stderr, status := cli(t, "key", "public"); status != exitFailed || !strings.Contains(stderr, "sov key new") {
		t.Errorf("no key: status %d, says %q", status, stderr)
	}
	named := filepath.Join(dir, "release.pem")
	for _, args := range [][]string{nil, {named}} {
		out, stderr, status := cli(t, append([]string{"key", "new"}, args...)...)
		if status != exitDone || !strings.HasPrefix(out, "wrote ") {
			t.Fatalf("key new: status %d: %s%s", status, out, stderr)
		}
		path := strings.TrimSuffix(strings.Fields(out)[1], ",")
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
		public, stderr, status := cli(t, append([]string{"key", "public"}, args...)...)
		key, err := dsse.ParsePublic([]byte(public))
		if status != exitDone || err != nil || !strings.Contains(out, key.ID()) {
			t.Errorf("key public: status %d, %v: %s%s", status, err, public, stderr)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, stderr, status := cli(t, append([]string{"key", "new"}, args...)...); status != exitFailed || !strings.Contains(stderr, "is not replaced") {
			t.Errorf("key new again: status %d, says %q", status, stderr)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
			t.Errorf("the key was replaced: %v", err)
		}
	}
}
