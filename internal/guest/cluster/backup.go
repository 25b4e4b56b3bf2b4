package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/backup"
)

// A Server is a running server whose databases can be saved and restored.
type Server struct {
	Socket string // a path that ends in .s.PGSQL.PORT
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
	conn, err := connect(ctx, s.Socket)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	databases, err := databasesOf(ctx, conn)
	if err != nil {
		return err
	}
	programs, err := s.programs(ctx, conn)
	if err != nil {
		return err
	}
	if err := stream.Begin(backup.Part{Kind: backup.KindRoles}); err != nil {
		return err
	}
	if err := programs.run(ctx, nil, stream, "pg_dumpall", "--roles-only"); err != nil {
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
		if err := programs.run(ctx, nil, stream, "pg_dump", "--format=custom", "--compress=3", "--dbname="+conninfo(d.Name)); err != nil {
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

// programs are the client programs of the server's major version. Programs of a newer version use
// settings that the server may not know: pg_restore 17 sets transaction_timeout, which servers
// before 17 refuse.
type programs struct {
	dir     string
	options []string // connection options
}

// programs asks the server for the directory of its programs. conn is a session of the superuser.
func (s Server) programs(ctx context.Context, conn *pgconn.PgConn) (programs, error) {
	port := strings.TrimPrefix(filepath.Base(s.Socket), ".s.PGSQL.")
	rows, err := query(ctx, conn, "SELECT setting FROM pg_catalog.pg_config WHERE name = 'BINDIR'")
	if err == nil && len(rows) != 1 {
		err = errors.New("it does not know")
	}
	if err != nil {
		return programs{}, fmt.Errorf("ask the server where its programs are: %w", err)
	}
	return programs{rows[0][0], []string{"--host=" + filepath.Dir(s.Socket), "--port=" + port, "--username=" + superuser, "--no-password"}}, nil
}

// run runs one of the programs as the superuser. Its standard error becomes the error.
func (p programs) run(ctx context.Context, in io.Reader, out io.Writer, program string, args ...string) error {
	command := exec.CommandContext(ctx, filepath.Join(p.dir, program), slices.Concat(p.options, args)...)
	var options []string
	for name, value := range sessionSettings {
		options = append(options, "-c "+name+"="+value)
	}
	command.Env = append(os.Environ(), "PGAPPNAME=sov-backup", "PGCLIENTENCODING=UTF8", "PGOPTIONS="+strings.Join(options, " "))
	command.WaitDelay = 10 * time.Second
	var said bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = in, out, &lastBytes{&said}
	if err := command.Run(); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: add the client programs of this major version to packages.install (Alpine: postgresql-client)", err)
	} else if err != nil {
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
