package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

func TestCheckSettings(t *testing.T) {
	root := tree.New()
	install(t, root, "usr/libexec/postgresql17", "postgres (PostgreSQL) 17.6\n")
	if err := root.Put("usr/lib/postgresql17/pg_stat_statements.so", &tree.Inode{Mode: tree.S_IFREG | 0o755}); err != nil {
		t.Fatal(err)
	}
	server, err := findServer(root, recipe.Postgres{})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, value   string
		want, warning string
	}{
		{"max_connections", "20", "", ""},
		{"shared_buffer", "300MB", `test.yaml:6:20: postgres.settings.shared_buffer: PostgreSQL 17 does not have this parameter; did you mean "shared_buffers"?`, ""},
		{"pg_trgm.similarity_threshold", "0.4", "", "parameters of extensions are not checked: pg_trgm.similarity_threshold"},
		{"shared_preload_libraries", `'"pg_stat_statements", $libdir/x'`, "", ""},
		{"shared_preload_libraries", "'pg_stat_statements, pg_cron'", "test.yaml:6:31: postgres.settings.shared_preload_libraries: the server in /usr/libexec/postgresql17 has no module pg_cron", ""},
	}
	for _, tt := range tests {
		var warned strings.Builder
		r, err := recipe.Parse("test.yaml", []byte("name: test\nbase: {image: alpine}\npostgres:\n  enabled: true\n  settings:\n    "+tt.name+": "+tt.value+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		err = server.checkSettings(root, r, func(format string, args ...any) { fmt.Fprintf(&warned, format, args...) })
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s = %s: %v, want %q", tt.name, tt.value, err, tt.want)
		}
		if !strings.Contains(warned.String(), tt.warning) || tt.warning == "" && warned.Len() > 0 {
			t.Errorf("%s = %s: warned %q, want %q", tt.name, tt.value, warned.String(), tt.warning)
		}
	}
}
