package sovtest

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Checkout copies the module's sources, as git lists them, to a new folder, without git's history.
// It returns the folder and the slash-separated names of the files.
func Checkout(t testing.TB) (dir string, names []string) {
	t.Helper()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = Root()
	out, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	dir = t.TempDir()
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		original, copied := filepath.Join(Root(), name), filepath.Join(dir, name)
		info, err := os.Stat(original)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, but not committed yet
		}
		var content []byte
		if err == nil {
			content, err = os.ReadFile(original)
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(copied), 0o755)
		}
		if err == nil {
			err = os.WriteFile(copied, content, info.Mode())
		}
		if err != nil {
			t.Fatalf("copy %s: %v", name, err)
		}
		names = append(names, name)
	}
	return dir, names
}
