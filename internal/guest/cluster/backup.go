package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/backup"
)

// A Server is a running server whose databases can be saved and restored.
type Server struct {
	Socket string // a path that ends in .s.PGSQL.PORT
	Bin    string // directory of its programs; others are looked up in $PATH
}

// Backup writes all roles and a consistent snapshot of each database to w as a stream of package
// backup. An error ends the stream with the reason and is returned.
func (s Server) Backup(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := backup.NewWriter(w)
	go stream.KeepAlive(ctx)
	err := s.backup(ctx, stream)
	if err != nil {
		err = fmt.Errorf("back up: %w", err)
		stream.Fail(err.Error())
	}
	return err
}

func (s Server) backup(ctx context.Context, stream *backup.Writer) error {
	databases, err := s.databases(ctx)
	if err != nil {
		return err
	}
	if err := stream.Begin(backup.Part{Kind: backup.KindRoles}); err != nil {
		return err
	}
	if err := s.run(ctx, nil, stream, "pg_dumpall", "--roles-only"); err != nil {
		return err
	}
	if err := stream.End(); err != nil {
		return err
	}
	for i := range databases {
		d := &databases[i]
		if err := stream.Begin(backup.Part{Kind: backup.KindDatabase, Database: d}); err != nil {
			return err
		}
		// A low compression level: the link is slower than a phone's processor, which is also
		// needed for other work.
		if err := s.run(ctx, nil, stream, "pg_dump", "--format=custom", "--compress=3", "--dbname="+conninfo(d.Name)); err != nil {
			return fmt.Errorf("database %s: %w", d.Name, err)
		}
		if err := stream.End(); err != nil {
			return err
		}
	}
	return stream.Close()
}

// conninfo returns a connection string for a database, whose name may contain any character (libpq,
// Connection Strings).
func conninfo(database string) string {
	return "dbname='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(database) + "'"
}

// databasesSQL lists the properties of each database that pg_dump leaves out. The columns of
// collations differ between versions, so they are taken from the row as JSON.
const databasesSQL = `SELECT pg_catalog.json_build_object(
	'name', d.datname, 'owner', pg_catalog.pg_get_userbyid(d.datdba), 'size', pg_catalog.pg_database_size(d.oid),
	'encoding', pg_catalog.pg_encoding_to_char(d.encoding), 'collate', d.datcollate, 'ctype', d.datctype, 'limit', d.datconnlimit,
	'provider', coalesce(pg_catalog.to_jsonb(d)->>'datlocprovider', 'c'),
	'locale', coalesce(pg_catalog.to_jsonb(d)->>'datlocale', pg_catalog.to_jsonb(d)->>'daticulocale', ''),
	'rules', coalesce(pg_catalog.to_jsonb(d)->>'daticurules', ''),
	'comment', coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), ''),
	'closed', d.datacl IS NOT NULL,
	'settings', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('role', coalesce(r.rolname, ''), 'text', t.text))
		FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole, pg_catalog.unnest(s.setconfig) t(text)
		WHERE s.setdatabase = d.oid),
	'privileges', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('role', coalesce(r.rolname, ''), 'privilege', a.privilege_type, 'grantable', a.is_grantable))
		FROM pg_catalog.aclexplode(d.datacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee WHERE a.grantee <> d.datdba))
	FROM pg_catalog.pg_database d WHERE d.datallowconn AND NOT d.datistemplate AND d.datname NOT LIKE $1 ORDER BY d.datname`

func (s Server) databases(ctx context.Context) ([]backup.Database, error) {
	conn, err := connect(ctx, s.Socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	return databasesOf(ctx, conn)
}

func databasesOf(ctx context.Context, conn *pgconn.PgConn) ([]backup.Database, error) {
	rows, err := query(ctx, conn, databasesSQL, ours+"%")
	if err != nil {
		return nil, err
	}
	databases := make([]backup.Database, len(rows))
	for i, row := range rows {
		if err := json.Unmarshal([]byte(row[0]), &databases[i]); err != nil {
			return nil, fmt.Errorf("list databases: %w", err)
		}
	}
	return databases, nil
}

// run runs one of the server's programs as the superuser. Its standard error becomes part of the
// error.
func (s Server) run(ctx context.Context, in io.Reader, out io.Writer, program string, args ...string) error {
	path := filepath.Join(s.Bin, program)
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath(program); err != nil {
			return fmt.Errorf("%w: the image lacks the package postgresql-client", err)
		}
	}
	port := strings.TrimPrefix(filepath.Base(s.Socket), ".s.PGSQL.")
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%s is not the name of a PostgreSQL socket", s.Socket)
	}
	command := exec.CommandContext(ctx, path, append([]string{"--host=" + filepath.Dir(s.Socket), "--port=" + port, "--username=" + superuser, "--no-password"}, args...)...)
	command.Env = append(os.Environ(), "PGAPPNAME=sov-backup", "PGCLIENTENCODING=UTF8", "PGOPTIONS=-c log_statement=none -c log_min_duration_statement=-1")
	command.WaitDelay = 10 * time.Second
	var said bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = in, out, &lastBytes{&said}
	if err := command.Run(); err != nil {
		var exit *exec.ExitError
		if text := strings.TrimSpace(said.String()); errors.As(err, &exit) && text != "" && ctx.Err() == nil {
			return errors.New(text)
		}
		return fmt.Errorf("%s: %w", program, err)
	}
	return nil
}

// lastBytes is a writer that keeps only the end of its input.
type lastBytes struct{ b *bytes.Buffer }

const maxSaid = 8 << 10 // bytes

func (l *lastBytes) Write(p []byte) (int, error) {
	l.b.Write(p)
	if over := l.b.Len() - maxSaid; over > 0 {
		l.b.Next(over)
	}
	return len(p), nil
}
