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

// Names of databases that a restore makes for itself. A user's do not begin like this.
const (
	ours     = "sov restore: "
	staged   = ours + "new "
	replaced = ours + "old "
)

const (
	maxRoles = 16 << 20 // bytes of SQL
	swaps    = 5        // attempts: a client may connect between being put out and the swap
)

// Restore reads a stream of package backup and replaces the databases that are in it. Each is
// restored under another name first, and the first error ends the restore. Once the stream has
// ended and is whole, all databases get their names in one transaction, and existing connections to
// the replaced ones are closed. Until then, and if anything fails, the old databases stay.
// Databases that are not in the stream are not changed.
func (s Server) Restore(ctx context.Context, r io.Reader, report func(string)) (*backup.Restoration, error) {
	// template1 holds no user's data, and it is not renamed.
	conn, err := connectTo(ctx, s.Socket, "template1")
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	t := &restore{server: s, conn: conn, report: report, did: backup.Restoration{Databases: []string{}, Roles: []string{}}}
	if err := t.run(ctx, backup.NewReader(r)); err != nil {
		tidying, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("restore: nothing was changed: %w", err), t.undo(tidying))
	}
	return &t.did, nil
}

// A restore is one that is under way.
type restore struct {
	server    Server
	conn      *pgconn.PgConn
	report    func(string)
	databases []*backup.Database
	did       backup.Restoration
}

func (t *restore) run(ctx context.Context, stream *backup.Reader) error {
	if err := t.dropOurs(ctx); err != nil { // of one that was cut off
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
	// From here on it is done: what cannot be tidied up now is by the next restore.
	if err := t.dropOurs(ctx); err != nil {
		t.did.Warnings = append(t.did.Warnings, fmt.Sprintf("the databases that were replaced still take space, until the next restore: %v", err))
	}
	return nil
}

func (t *restore) exec(ctx context.Context, sql string) error {
	_, err := t.conn.Exec(ctx, sql).ReadAll()
	return err
}

// dropOurs drops databases of restores.
func (t *restore) dropOurs(ctx context.Context) error {
	_, err := dropOurs(ctx, t.conn)
	return err
}

// undo leaves the cluster as it was.
func (t *restore) undo(ctx context.Context) error {
	if t.conn.IsClosed() {
		conn, err := connectTo(ctx, t.server.Socket, "template1")
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		t.conn = conn
	}
	err := t.dropOurs(ctx)
	for _, role := range t.did.Roles {
		err = errors.Join(err, t.exec(ctx, "DROP ROLE IF EXISTS "+quoteIdentifier(role)))
	}
	return err
}

// roleStatement is how pg_dumpall begins to make a role.
var roleStatement = regexp.MustCompile(`^(CREATE|ALTER) ROLE ("(?:[^"]|"")+"|[^" ;]+)[ ;]`)

// roles makes those roles that are not there. It is one transaction: the server takes several
// statements as one.
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
	if err := t.exec(ctx, sql); err != nil {
		return fmt.Errorf("roles: %w", err)
	}
	t.did.Roles = append(t.did.Roles, made...)
	return nil
}

// missingRoles returns the SQL of pg_dumpall --roles-only without what makes or changes roles that
// are there, and without psql's own commands; and the roles that it makes.
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
	err := t.server.run(ctx, content, io.Discard, "pg_restore", "--format=custom", "--exit-on-error", "--dbname="+conninfo(name))
	if err != nil {
		return fmt.Errorf("database %s: %w", d.Name, err)
	}
	return nil
}

// reserve is what has to stay free on the data disk, in bytes: a server that cannot write its log
// stops.
const reserve = 128 << 20

// checkSpace refuses a database for which there is no room beside the one that it will replace.
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

// providers are the names of collation providers by pg_database.datlocprovider, and the options for
// their locales.
var providers = map[string]struct{ name, locale string }{
	"i": {"icu", "ICU_LOCALE"}, "b": {"builtin", "BUILTIN_LOCALE"},
}

// createSQL makes a database like d.
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

// swap gives the new databases their names, in one transaction.
func (t *restore) swap(ctx context.Context) error {
	var err error
	for range swaps {
		if err = t.trySwap(ctx); err == nil {
			break
		}
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "55006" { // object_in_use: a client has come back
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
	// One message of several statements is one transaction (PostgreSQL's documentation, "Simple
	// Query").
	return t.exec(ctx, b.String())
}

// listed are settings whose stored values are lists of quoted names, which are taken as they are;
// others are one text each (GUC_LIST_QUOTE in PostgreSQL's guc_tables.c, as pg_dump knows them:
// variable_is_guc_list_quote in dumputils.c).
var listed = map[string]bool{
	"local_preload_libraries": true, "search_path": true, "session_preload_libraries": true, "shared_preload_libraries": true,
	"temp_tablespaces": true, "unix_socket_directories": true,
}

// propertiesSQL sets what belongs to a database's name.
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

// privileges are those on databases: a word that is another makes a statement that fails.
var privileges = map[string]string{"CREATE": "CREATE", "CONNECT": "CONNECT", "TEMPORARY": "TEMPORARY"}

// quoteParts quotes the name of a setting, which may have a prefix before a point.
func quoteParts(name string) string {
	parts := strings.Split(name, ".")
	for i := range parts {
		parts[i] = quoteIdentifier(parts[i])
	}
	return strings.Join(parts, ".")
}
