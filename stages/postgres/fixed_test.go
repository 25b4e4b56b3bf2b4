//go:build linux

package postgres

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/testkit/postgrestest"
)

// TestAlterSystemOfFixedSettings sets each fixed setting in a real server to a value that sov could
// not work with. The server is then started as in the guest and must run with the recipe's values.
func TestAlterSystemOfFixedSettings(t *testing.T) {
	r := sqlRecipe(t)
	r.Postgres.Port, r.Postgres.Listen = freePort(t), []string{"127.9.0.3", "127.9.0.4"}
	s := postgrestest.Start(t, r.Postgres.Port, postgrestest.TLS(t), "", nil)
	dir := filepath.Dir(s.SocketFile())
	here := map[string]string{
		quote(socketDir): quote(dir), quote(hbaFile): quote(postgrestest.OwnFile(t, "hba", []byte("local all all trust\nhost all all all scram-sha-256\n"))),
		quote(identFile): quote(postgrestest.OwnFile(t, "ident", nil)), quote(ownFile): quote(s.Query(t, "SHOW ssl_cert_file")),
	}
	st := stage{Options{Recipe: r}}
	values := st.values(&Server{TLS: true})
	for name, value := range values {
		if place, ok := here[value]; ok {
			values[name] = place
		}
	}
	bad := map[string]string{
		"fsync": "off", "port": "1", "listen_addresses": "192.0.2.1", "unix_socket_directories": "/nowhere", "unix_socket_permissions": "0000",
		"hba_file": "/nowhere", "ident_file": "/nowhere", "ssl": "off", "ssl_cert_file": "/nowhere", "ssl_key_file": "/nowhere",
	}
	for _, name := range fixed {
		if bad[name] == "" {
			t.Errorf("%s is not tried", name)
			continue
		}
		s.Query(t, "ALTER SYSTEM SET "+name+" = '"+bad[name]+"'")
	}
	command := (&Server{}).command("/data", values)
	settings := slices.Index(command, "config_file="+configFile) + 1
	s.Restart(t, command[settings:]...)
	for _, name := range fixed {
		if got := s.Query(t, "SHOW "+name); got != unquote(values[name]) {
			t.Errorf("%s is %q after ALTER SYSTEM, want %s", name, got, values[name])
		}
	}
	s.Mode = "require"
	if err := s.LogIn("app", postgrestest.Password, "127.9.0.4", nil); err != nil {
		t.Error(err)
	}
	if got := s.Query(t, "SELECT count(*) FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'"); got != "10" {
		t.Errorf("ALTER SYSTEM has set %s settings", got)
	}
	// PostgreSQL itself refuses these (GUC_DISALLOW_IN_AUTO_FILE in guc_tables.c).
	conn, err := pgconn.Connect(t.Context(), fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", dir, s.Port))
	must(t, err)
	defer conn.Close(context.Background())
	for _, name := range []string{"data_directory", "config_file"} {
		if _, err := conn.Exec(t.Context(), "ALTER SYSTEM SET "+name+" = '/nowhere'").ReadAll(); err == nil || !strings.Contains(err.Error(), "cannot be changed") {
			t.Errorf("ALTER SYSTEM SET %s: %v", name, err)
		}
	}
}
