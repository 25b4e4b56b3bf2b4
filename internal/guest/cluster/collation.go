//go:build linux

package cluster

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/durable"
)

// Collations rebuilds indexes of a cluster before the server accepts clients, if text sorts
// differently with the image's libraries. PostgreSQL records a collation's version but only warns
// if it has changed; an index in the old order then misses rows and accepts duplicates.
type Collations struct {
	Data   string // the data directory
	Bin    string // the directory of postgres
	OldBin string // that of an older major version, whose cluster may still be used; or empty
	User   string // the owner of the cluster
	Config string // postgresql.conf, with pg_hba.conf and pg_ident.conf beside it
	// Image is a digest of the image's libraries that sort text. If it has not changed since the
	// last run, nothing is checked.
	Image  string
	Output io.Writer // receives the server's output and what was done, in lines
}

// Run checks the cluster, if it exists and the libraries have changed, with a server that accepts
// no other clients. The next Run completes an interrupted one. After an error indexes may still be
// in the old order; the cluster can be started, so that its owner can fix it.
func (c Collations) Run(ctx context.Context) error {
	cluster, err := systemIdentifier(c.Data)
	if err != nil { // the cluster does not exist, or is incomplete, which its preparation reports
		if errors.Is(err, fs.ErrNotExist) {
			return c.note("")
		}
		return nil
	}
	noted, err := os.ReadFile(c.file())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("collations: %w", err)
	}
	image, of, _ := strings.Cut(strings.TrimSpace(string(noted)), " ")
	if image == c.Image && of == "" { // the cluster was made by this image
		return c.note(cluster)
	}
	if image == c.Image && of == cluster {
		return nil
	}
	err = c.withServer(ctx, func(socket string) error { return c.examine(ctx, socket) })
	if errors.Is(err, ErrPermanent) {
		return nil // there is no server for the cluster, which its preparation tells
	}
	if err != nil {
		return fmt.Errorf("collations: %w", err)
	}
	return c.note(cluster)
}

// file returns the path of the record: the libraries and the cluster for which the indexes are
// correct.
func (c Collations) file() string { return c.Data + ".collations" }

func (c Collations) note(cluster string) error {
	text := strings.TrimSpace(c.Image+" "+cluster) + "\n"
	if was, err := os.ReadFile(c.file()); err == nil && string(was) == text {
		return nil
	}
	if err := durable.WriteFile(c.file(), []byte(text), 0o600); err != nil {
		return fmt.Errorf("collations: %w", err)
	}
	return nil
}

// systemIdentifier is the number that initdb gave the cluster in dir, in hexadecimal digits: the
// first eight bytes of pg_control (src/include/catalog/pg_control.h).
func systemIdentifier(dir string) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	f, err := root.Open("global/pg_control")
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, 8)
	_, err = io.ReadFull(f, b)
	return hex.EncodeToString(b), err
}

// withServer runs a server of the cluster's major version while do runs.
func (c Collations) withServer(ctx context.Context, do func(socket string) error) error {
	bin, err := BinOf(ctx, c.Data, c.Bin, c.OldBin)
	if err != nil {
		return err
	}
	if err := RemoveStalePID(c.Data, c.Output); err != nil {
		return err
	}
	owner, err := lookUp(c.User)
	if err != nil {
		return err
	}
	return privateServer{bin: bin, data: c.Data, config: c.Config, owner: owner, output: c.Output}.with(ctx, do)
}

// examine rebuilds indexes in all databases as needed, and then makes PostgreSQL record the new
// versions.
func (c Collations) examine(ctx context.Context, socket string) error {
	conn, err := connect(ctx, socket)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	// Databases have their own version since PostgreSQL 15 (to_jsonb, because older servers do not
	// have the column).
	versions := "NULL"
	rows, err := query(ctx, conn, "SELECT 1 FROM pg_catalog.pg_proc WHERE proname = 'pg_database_collation_actual_version'")
	if err != nil {
		return err
	}
	if len(rows) > 0 {
		versions = "pg_catalog.pg_database_collation_actual_version(oid)"
	}
	rows, err = query(ctx, conn, "SELECT datname, datallowconn, coalesce(pg_catalog.to_jsonb(d)->>'datcollversion', ''), coalesce("+versions+", '') FROM pg_catalog.pg_database d ORDER BY datname")
	if err != nil {
		return err
	}
	var failed error
	for _, row := range rows {
		name, connectable, was, is := row[0], row[1] == "t", row[2], row[3]
		changed := was != "" && is != "" && was != is
		if connectable {
			if err := c.rebuild(ctx, socket, name, changed, was, is); err != nil {
				failed = errors.Join(failed, fmt.Errorf("database %s: %w", name, err))
				continue
			}
		}
		if !changed {
			continue
		}
		// A database that does not accept sessions is a template. It has only the indexes of the
		// system, whose order never changes.
		if _, err := conn.Exec(ctx, "ALTER DATABASE "+quoteIdentifier(name)+" REFRESH COLLATION VERSION").ReadAll(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("database %s: %w", name, err))
		}
	}
	return failed
}

// changedCollations selects the collations of a database whose version has changed, without those
// for other encodings, which it cannot use.
const changedCollations = `SELECT oid FROM pg_catalog.pg_collation
	WHERE collencoding IN (-1, (SELECT encoding FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
	AND collversion <> pg_catalog.pg_collation_actual_version(oid)`

// refreshSQL records the new versions of changedCollations.
const refreshSQL = `DO $$ DECLARE c regcollation; BEGIN
	FOR c IN ` + changedCollations + ` LOOP EXECUTE 'ALTER COLLATION ' || c::text || ' REFRESH VERSION'; END LOOP; END $$`

// rebuild rebuilds the affected indexes of a database: all if the database's own collation has
// changed, otherwise those that use a changed collation.
func (c Collations) rebuild(ctx context.Context, socket, database string, all bool, was, is string) error {
	conn, err := connectTo(ctx, socket, database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var commands []string
	if all {
		c.say("text in database %s was sorted by version %s of its collation, and this image has %s: all indexes are rebuilt", database, was, is)
		commands = []string{"REINDEX DATABASE " + quoteIdentifier(database)}
	} else {
		rows, err := query(ctx, conn, `WITH changed AS (`+changedCollations+`)
			SELECT indexrelid::pg_catalog.regclass FROM pg_catalog.pg_index i WHERE EXISTS (SELECT FROM changed WHERE oid = ANY (i.indcollation))
			OR EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN changed ON d.refobjid = changed.oid WHERE d.objid = i.indexrelid
				AND d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_collation'::regclass)`)
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			c.say("%d indexes of database %s use collations that sort otherwise in this image: they are rebuilt", len(rows), database)
		}
		for _, row := range rows {
			commands = append(commands, "REINDEX INDEX "+row[0])
		}
	}
	return run(ctx, conn, append(commands, refreshSQL))
}

func run(ctx context.Context, conn *pgconn.PgConn, commands []string) error {
	for _, sql := range commands {
		if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
			return err
		}
	}
	return nil
}

func (c Collations) say(format string, args ...any) { fmt.Fprintf(c.Output, format+"\n", args...) }
