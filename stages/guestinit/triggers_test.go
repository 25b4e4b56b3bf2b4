package guestinit

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// TestLinkPostgres compares with the links of Alpine's postgresql-common, which its trigger and
// pg_versions make.
func TestLinkPostgres(t *testing.T) {
	client := func(v string) []string {
		return []string{"usr/libexec/postgresql" + v + "/psql", "usr/libexec/postgresql" + v + "/pg_dump"}
	}
	server := func(v string) []string {
		return append(client(v), "usr/libexec/postgresql"+v+"/postgres", "usr/share/postgresql"+v+"/postgres.bki")
	}
	links := func(v string, names ...string) map[string]string {
		out := map[string]string{"usr/libexec/postgresql": "postgresql" + v}
		for _, name := range names {
			out["usr/bin/"+name] = "/usr/libexec/postgresql/" + name
		}
		return out
	}
	withShare := links("17", "psql", "pg_dump", "postgres")
	withShare["usr/share/postgresql"] = "postgresql17"
	tests := []struct {
		name  string
		files []string // "PATH", or "PATH > TARGET" for a link
		want  map[string]string
	}{
		{"none", nil, nil},
		{"Debian's", []string{"usr/lib/postgresql/17/bin/psql"}, nil},
		{"a server", server("17"), withShare},
		{"a client", client("17"), links("17", "psql", "pg_dump")},
		{"a newer client beside a server", slices.Concat(server("17"), client("18")), withShare},
		{"two clients", slices.Concat(client("9"), client("17")), links("17", "psql", "pg_dump")},
		{"chosen in the base image", slices.Concat(client("17"), client("18"), []string{"usr/libexec/postgresql > postgresql17"}), links("17", "psql", "pg_dump")},
		{"chosen with a server", slices.Concat(server("17"), server("18"), []string{"usr/libexec/postgresql > postgresql17"}), withShare},
		{"a program of its own", append(client("17"), "usr/bin/psql"), links("17", "pg_dump")},
		{"not a link", append(client("17"), "usr/libexec/postgresql/x"), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := below(t, alpine)
			for _, f := range tt.files {
				name, target, isLink := strings.Cut(f, " > ")
				n := &tree.Inode{Mode: tree.S_IFREG | 0o755, Content: tree.Bytes(nil)}
				if isLink {
					n = &tree.Inode{Mode: tree.S_IFLNK | 0o777, Target: target}
				}
				if err := root.Put(name, n); err != nil {
					t.Fatal(err)
				}
			}
			if err := apply(t, root, parse(t, "")); err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			root.Walk(func(p string, n *tree.Inode) error {
				if n.IsSymlink() && strings.Contains(n.Target, "postgresql") {
					got[p] = n.Target
				}
				return nil
			})
			if len(got)+len(tt.want) > 0 && !maps.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
