package inspect

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, artifact.SpecFile), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	tr := tree.New()
	for _, name := range []string{guestspec.ConfigPath, guestspec.ServicesDir + "/b.json", guestspec.ServicesDir + "/a.json"} {
		parts := strings.Split(strings.TrimPrefix(name, "/"), "/")
		for i := 1; i < len(parts); i++ {
			if parent := strings.Join(parts[:i], "/"); !has(tr, parent) {
				put(t, tr, parent, &tree.Inode{Mode: tree.S_IFDIR | 0o755})
			}
		}
		put(t, tr, strings.Join(parts, "/"), &tree.Inode{Mode: tree.S_IFREG | 0o644, Content: tree.Bytes([]byte(name))})
	}
	image, err := os.Create(filepath.Join(dir, artifact.RootfsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if _, err := ext4.Write(t.Context(), image, tr, ext4.Options{}); err != nil {
		t.Fatal(err)
	}
	parts, err := UsualParts(dir)
	if err != nil || !slices.Equal(parts, []string{"vm", "guest", "services", "postgres"}) {
		t.Errorf("of a folder: %v, %v", parts, err)
	}
	if parts, err := UsualParts(image.Name()); err != nil || slices.Contains(parts, "vm") {
		t.Errorf("of an image: %v, %v", parts, err)
	}
	for part, want := range map[string]string{"vm": "={}", "guest": "=" + guestspec.ConfigPath, "postgres": "",
		"services": guestspec.ServicesDir + "/a.json=" + guestspec.ServicesDir + "/a.json " + guestspec.ServicesDir + "/b.json=" + guestspec.ServicesDir + "/b.json"} {
		files, err := Config(dir, part)
		var got []string
		for _, f := range files {
			got = append(got, f.Name+"="+string(f.Text))
		}
		if text := strings.Join(got, " "); err != nil || text != want {
			t.Errorf("%s: %s, %v; want %s", part, text, err, want)
		}
	}
}

func has(tr *tree.Tree, name string) bool {
	_, ok := tr.Lookup(name)
	return ok
}

func put(t *testing.T, tr *tree.Tree, name string, n *tree.Inode) {
	t.Helper()
	if err := tr.Put(name, n); err != nil {
		t.Fatal(err)
	}
}
