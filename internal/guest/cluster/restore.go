package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/backup"
)

// Prefixes of the databases that a restore creates. They are reserved.
const (
	ours     = "sov restore: "
	staged   = ours + "new "
	replaced = ours + "old "
)

const (
	maxRoles = 16 << 20 // bytes of SQL
	swaps    = 5        // attempts: a client may reconnect before the swap
)

// Restore reads a stream of package backup and replaces the databases that are in it. Each is
// restored under another name first, and the first error ends the restore. Once the stream has
// ended and is whole, all databases get their names in one transaction, and existing connections to
// the replaced ones are closed. Until then, and if anything fails, the old databases stay.
// Databases that are not in the stream are not changed.
func (s Server) Restore(ctx context.Context, r io.Reader, report func(string)) (*backup.Restoration, error) {
	// template1 has no user data and is not renamed.
	conn, err := connectTo(ctx, s.Socket, "template1")
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	programs, err := s.programs(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	t := &restore{server: s, programs: programs, conn: conn, report: report, did: backup.Restoration{Databases: []string{}, Roles: []string{}}}
	if err := t.run(ctx, backup.NewReader(r)); err != nil {
		tidying, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("restore: nothing was changed: %w", err), t.undo(tidying))
	}
	return &t.did, nil
}

// A restore is a running restore.
type restore struct {
	server    Server
	programs  programs
	conn      *pgconn.PgConn
	report    func(string)
	databases []*backup.Database
	did       backup.Restoration
}

func (t *restore) run(ctx context.Context, stream *backup.Reader) error {
	if err := t.dropOurs(ctx); err != nil { // of an interrupted restore
		return err
	}
	for {
		part, content, err := stream.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if part.Kind == backup.KindRoles {
			err = t.roles(ctx, content)
		} else {
			err = t.stage(ctx, part.Database, content)
		}
		if err != nil {
			return err
		}
	}
	if len(t.databases) == 0 {
		return errors.New("the backup holds no database")
	}
	t.report("taking their places")
	if err := t.swap(ctx); err != nil {
		return err
	}
	// The restore is complete. The next one removes what cannot be dropped now.
	if err := t.dropOurs(ctx); err != nil {
		t.did.Warnings = append(t.did.Warnings, fmt.Sprintf("the databases that were replaced still take space, until the next restore: %v", err))
	}
	return nil
}

func (t *restore) exec(ctx context.Context, sql string) error {
	_, err := t.conn.Exec(ctx, sql).ReadAll()
	return err
}

// dropOurs drops databases and roles of restores.
func (t *restore) dropOurs(ctx context.Context) error {
	_, err := dropOurs(ctx, t.conn)
	return err
}

// undo restores the cluster's previous state.
func (t *restore) undo(ctx context.Context) error {
	if t.conn.IsClosed() {
		conn, err := connectTo(ctx, t.server.Socket, "template1")
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		t.conn = conn
	}
	return t.dropOurs(ctx)
}

// roleStatement matches the start of pg_dumpall's statements about a role.
var roleStatement = regexp.MustCompile(`^(CREATE|ALTER) ROLE ("(?:[^"]|"")+"|[^" ;]+)[ ;]`)

// roles creates the missing roles in one transaction: the server runs several statements in one
// message as one.
func (t *restore) roles(ctx context.Context, content io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(content, maxRoles+1))
	if err != nil {
		return err
	}
	if len(text) > maxRoles {
		return fmt.Errorf("the roles' SQL has more than %d bytes", maxRoles)
	}
	rows, err := query(ctx, t.conn, "SELECT rolname FROM pg_catalog.pg_roles")
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, row := range rows {
		there[row[0]] = true
	}
	sql, made := missingRoles(string(text), there)
	if len(made) > 0 {
		sql += "CREATE ROLE " + quoteIdentifier(newRoles) + ";\n"
	}
	for _, role := range made {
		sql += "GRANT " + quoteIdentifier(newRoles) + " TO " + quoteIdentifier(role) + ";\n"
	}
	if err := t.exec(ctx, sql); err != nil {
		return fmt.Errorf("roles: %w", err)
	}
	t.did.Roles = append(t.did.Roles, made...)
	return nil
}

// missingRoles returns the SQL of pg_dumpall --roles-only without statements about existing roles
// and without psql's commands, and the names of the roles that it creates.
func missingRoles(text string, there map[string]bool) (sql string, made []string) {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, `\`) {
			continue
		}
		if m := roleStatement.FindStringSubmatch(line); m != nil {
			name := m[2]
			if strings.HasPrefix(name, `"`) {
				name = strings.ReplaceAll(name[1:len(name)-1], `""`, `"`)
			}
			if there[name] {
				continue
			}
			if m[1] == "CREATE" {
				made = append(made, name)
			}
		}
		b.WriteString(line)
	}
	return b.String(), made
}

// stage restores one database under another name.
func (t *restore) stage(ctx context.Context, d *backup.Database, content io.Reader) error {
	if err := t.checkSpace(ctx, d.Size); err != nil {
		return fmt.Errorf("database %s: %w", d.Name, err)
	}
	t.report(fmt.Sprintf("restoring database %s", d.Name))
	name := fmt.Sprint(staged, len(t.databases))
	if err := t.exec(ctx, createSQL(name, d)); err != nil {
		return fmt.Errorf("database %s: %w", d.Name, err)
	}
	t.databases = append(t.databases, d)
	err := t.programs.run(ctx, content, io.Discard, "pg_restore", "--format=custom", "--exit-on-error", "--dbname="+conninfo(name))
	if err != nil {
		return fmt.Errorf("database %s: %w", d.Name, err)
	}
	return nil
}

// reserve is the space that must stay free on the data disk, in bytes: a server that cannot write
// its WAL stops.
const reserve = 128 << 20

// checkSpace returns an error if a database does not fit on the disk beside the one that it will
// replace.
func (t *restore) checkSpace(ctx context.Context, size int64) error {
	rows, err := query(ctx, t.conn, "SHOW data_directory")
	if err != nil {
		return err
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(rows[0][0], &stat); err != nil {
		return fmt.Errorf("%s: %w", rows[0][0], err)
	}
	if free := int64(stat.Bavail) * stat.Bsize; size > free-reserve {
		return fmt.Errorf("it needs %d MiB in addition to the existing data, and the data disk has %d MiB free, of which %d must stay free", size>>20, free>>20, reserve>>20)
	}
	return nil
}

func literal(text string) string {
	return `E'` + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + `'`
}

// providers maps pg_database.datlocprovider to the name of the collation provider and the option
// for its locale.
var providers = map[string]struct{ name, locale string }{
	"i": {"icu", "ICU_LOCALE"}, "b": {"builtin", "BUILTIN_LOCALE"},
}

// createSQL returns the statement that creates a database like d.
func createSQL(name string, d *backup.Database) string {
	sql := "CREATE DATABASE " + quoteIdentifier(name) + " TEMPLATE template0 OWNER " + quoteIdentifier(d.Owner) +
		" ENCODING " + literal(d.Encoding) + " LC_COLLATE " + literal(d.Collate) + " LC_CTYPE " + literal(d.CType)
	if p, ok := providers[d.Provider]; ok {
		sql += " LOCALE_PROVIDER " + p.name + " " + p.locale + " " + literal(d.Locale)
	}
	if d.Rules != "" {
		sql += " ICU_RULES " + literal(d.Rules)
	}
	return sql
}

// swap renames all databases in one transaction.
func (t *restore) swap(ctx context.Context) error {
	var err error
	for range swaps {
		if err = t.trySwap(ctx); err == nil {
			break
		}
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "55006" { // object_in_use: a client has reconnected
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("clients connect again and again: stop them: %w", err)
	}
	for _, d := range t.databases {
		t.did.Databases = append(t.did.Databases, d.Name)
	}
	return nil
}

func (t *restore) trySwap(ctx context.Context) error {
	var b strings.Builder
	for i, d := range t.databases {
		rows, err := query(ctx, t.conn, "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_database d "+
			"LEFT JOIN pg_catalog.pg_stat_activity a ON a.datname = d.datname WHERE d.datname = $1", d.Name)
		if err != nil {
			return err
		}
		if len(rows) > 0 { // it is there
			fmt.Fprintf(&b, "ALTER DATABASE %s RENAME TO %s;\n", quoteIdentifier(d.Name), quoteIdentifier(fmt.Sprint(replaced, i)))
		}
	}
	for i, d := range t.databases {
		fmt.Fprintf(&b, "ALTER DATABASE %s RENAME TO %s;\n", quoteIdentifier(fmt.Sprint(staged, i)), quoteIdentifier(d.Name))
		b.WriteString(propertiesSQL(d))
	}
	if len(t.did.Roles) > 0 {
		b.WriteString("DROP ROLE " + quoteIdentifier(newRoles) + ";\n")
	}
	// One message of several statements is one transaction (PostgreSQL's documentation, "Simple
	// Query").
	return t.exec(ctx, b.String())
}

// listed are settings whose stored values are lists of quoted names, which must not be quoted again
// (GUC_LIST_QUOTE in PostgreSQL's guc_tables.c; variable_is_guc_list_quote of pg_dump's
// dumputils.c).
var listed = map[string]bool{
	"local_preload_libraries": true, "search_path": true, "session_preload_libraries": true, "shared_preload_libraries": true,
	"temp_tablespaces": true, "unix_socket_directories": true,
}

// propertiesSQL returns the statements that set a database's properties.
func propertiesSQL(d *backup.Database) string {
	var b bytes.Buffer
	name := quoteIdentifier(d.Name)
	if d.Limit >= 0 {
		fmt.Fprintf(&b, "ALTER DATABASE %s CONNECTION LIMIT %d;\n", name, d.Limit)
	}
	if d.Comment != "" {
		fmt.Fprintf(&b, "COMMENT ON DATABASE %s IS %s;\n", name, literal(d.Comment))
	}
	for _, s := range d.Settings {
		setting, value, _ := strings.Cut(s.Text, "=")
		if !listed[setting] {
			value = literal(value)
		}
		whose := "DATABASE " + name
		if s.Role != "" {
			whose = "ROLE " + quoteIdentifier(s.Role) + " IN DATABASE " + name
		}
		fmt.Fprintf(&b, "ALTER %s SET %s TO %s;\n", whose, quoteParts(setting), value)
	}
	if d.Closed {
		fmt.Fprintf(&b, "REVOKE ALL ON DATABASE %s FROM PUBLIC;\n", name)
	}
	for _, g := range d.Privilege {
		role := "PUBLIC"
		if g.Role != "" {
			role = quoteIdentifier(g.Role)
		}
		option := ""
		if g.Grantable {
			option = " WITH GRANT OPTION"
		}
		fmt.Fprintf(&b, "GRANT %s ON DATABASE %s TO %s%s;\n", privileges[g.Privilege], name, role, option)
	}
	return b.String()
}

// privileges are the privileges on databases. Another word gives a statement that fails.
var privileges = map[string]string{"CREATE": "CREATE", "CONNECT": "CONNECT", "TEMPORARY": "TEMPORARY"}

// quoteParts quotes the name of a setting, which may have a prefix and a dot.
func quoteParts(name string) string {
	parts := strings.Split(name, ".")
	for i := range parts {
		parts[i] = quoteIdentifier(parts[i])
	}
	return strings.Join(parts, ".")
}
