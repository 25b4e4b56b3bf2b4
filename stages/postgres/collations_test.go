package postgres

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// TestSortingOf expects another value after changes of ICU's version or data, or of glibc. Files
// that do not sort text must not change it.
func TestSortingOf(t *testing.T) {
	of := func(files map[string]string) string {
		root := tree.New()
		for name, content := range files {
			if err := root.Put(name, &tree.Inode{Mode: tree.S_IFREG | 0o644, Content: tree.Bytes([]byte(content))}); err != nil {
				t.Fatal(err)
			}
		}
		sorting, err := sortingOf(root)
		if err != nil {
			t.Fatal(err)
		}
		return sorting
	}
	base := map[string]string{"usr/lib/libicui18n.so.74.2": "code", "usr/share/icu/74.2/icudt74l.dat": "data", "lib/ld-musl-aarch64.so.1": "musl"}
	first := of(base)
	for _, tt := range []struct {
		name, content string
		same          bool
	}{
		{"usr/lib/libicui18n.so.76.1", "code", false}, {"usr/share/icu/74.2/icudt74l.dat", "more data", false},
		{"usr/lib/aarch64-linux-gnu/libc.so.6", "glibc", false}, {"lib/ld-musl-aarch64.so.1", "another musl", true}, {"usr/lib/libpq.so.5", "x", true},
	} {
		changed := map[string]string{}
		for name, content := range base {
			changed[name] = content
		}
		changed[tt.name] = tt.content
		if (of(changed) == first) != tt.same {
			t.Errorf("%s: the same: %t, want %t", tt.name, !tt.same, tt.same)
		}
	}
}
