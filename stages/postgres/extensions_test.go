package postgres

import (
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// TestCheckExtensions finds extensions in the directories of Alpine's, Debian's and Docker Hub's
// packages. It rejects one for another major version.
func TestCheckExtensions(t *testing.T) {
	vector := recipe.Extension{Name: "vector", Package: "postgresql-pgvector"}
	for _, tt := range []struct {
		name   string
		server Server
		files  []string
		fault  string
	}{
		{"alpine", Server{Dir: "/usr/libexec/postgresql17", Major: 17}, []string{"usr/share/postgresql17/extension/vector.control"}, ""},
		{"debian", Server{Dir: "/usr/lib/postgresql/15/bin", Major: 15}, []string{"usr/share/postgresql/15/extension/vector.control"}, ""},
		{"docker hub", Server{Dir: "/usr/local/bin", Major: 17}, []string{"usr/local/share/postgresql/extension/vector.control"}, ""},
		{"for another major", Server{Dir: "/usr/libexec/postgresql18", Major: 18, Version: "18.1"}, []string{"usr/share/postgresql17/extension/vector.control"},
			"the image has it for another server (/usr/share/postgresql17/extension/vector.control), and runs PostgreSQL 18.1"},
		{"nowhere", Server{Dir: "/usr/libexec/postgresql17", Major: 17, Version: "17.6"}, []string{"etc/vector.control"}, "the package postgresql-pgvector does not bring it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := tree.New()
			for _, name := range tt.files {
				if err := root.Put(name, &tree.Inode{Mode: tree.S_IFREG | 0o644, Content: tree.Bytes(nil)}); err != nil {
					t.Fatal(err)
				}
			}
			err := tt.server.checkExtensions(root, []recipe.Extension{vector})
			if (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
				t.Errorf("%v, want %q", err, tt.fault)
			}
		})
	}
	err := (&Server{Dir: "/usr/bin"}).checkExtensions(tree.New(), []recipe.Extension{{Name: "own"}})
	if err == nil || !strings.Contains(err.Error(), "its package is unknown to sov") {
		t.Error(err)
	}
}
