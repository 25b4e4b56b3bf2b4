package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGroupFiles verifies that commands process a group's machines in order, and that commands for
// one machine refuse a group.
func TestGroupFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.yaml": "name: a\nbase: {image: oci:./none-a}\n", "b.yaml": "name: b\nbase: {image: oci:./none-b}\n",
		"home.yaml": "machines: [{recipe: b.yaml, after: [a]}, {recipe: a.yaml}]\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	home := filepath.Join(dir, "home.yaml")
	for _, tt := range []struct {
		args   []string
		says   string
		status int
	}{
		{[]string{"build", home, "--offline", "--cache", filepath.Join(dir, "cache")}, "none-a", exitFailed},
		{[]string{"push", home, "-o", filepath.Join(dir, "out")}, filepath.Join("out", "a", "arm64") + " does not exist", exitFailed},
		{[]string{"recipe", "check", home}, "b.yaml: base.image: stat none-b", exitFailed}, // the images' folders do not exist
		{[]string{"logs", home, "--runner", "--service", "x"}, "exclude each other", exitUsage},
		{[]string{"backup", home, filepath.Join(dir, "backups"), "--all"}, "a file takes the backup of one phone", exitUsage},
		{[]string{"restore", home, filepath.Join(dir, "backups"), "--yes"}, "no machine of the group has PostgreSQL or a service with a backup", exitFailed},
		{[]string{"restore", home, filepath.Join(dir, "backups"), "--service", "x"}, "name one machine of the group", exitUsage},
		{[]string{"rollback", home}, "a group file: name one of its machines", exitUsage},
		{[]string{"stop", home, "--device", "local:" + dir}, "", exitFailed},
	} {
		_, stderr, status := cli(t, tt.args...)
		if status != tt.status || !strings.Contains(stderr, tt.says) {
			t.Errorf("%s: status %d: %s", tt.args, status, stderr)
		}
	}
}
