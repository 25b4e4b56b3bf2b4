package cluster

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// An Extension is an extension of a database.
type Extension struct {
	Name    string
	Schema  string // created if it does not exist; empty: the extension's own choice, else public
	Version string // empty: the newest that the server has
}

// Ensure creates or updates the extension in a database of the server that listens on socket, and
// returns a description of what it did. An extension that cannot be updated is kept: after a
// rollback it may be newer than the image, and still works.
func (e Extension) Ensure(ctx context.Context, socket, database string) (did []string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("extension %s in database %s: %w", e.Name, database, err)
		}
	}()
	conn, err := connectTo(ctx, socket, database)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	// The schema must not be one that a role has created under the superuser's name.
	if _, err := conn.Exec(ctx, "SET search_path = public").ReadAll(); err != nil {
		return nil, err
	}
	rows, err := query(ctx, conn, "SELECT extversion FROM pg_catalog.pg_extension WHERE extname = $1", e.Name)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return e.create(ctx, conn, database)
	}
	return e.update(ctx, conn, database, rows[0][0])
}

func (e Extension) create(ctx context.Context, conn *pgconn.PgConn, database string) ([]string, error) {
	sql := "CREATE EXTENSION " + quoteIdentifier(e.Name)
	if e.Schema != "" {
		sql = "CREATE SCHEMA IF NOT EXISTS " + quoteIdentifier(e.Schema) + "; " + sql + " SCHEMA " + quoteIdentifier(e.Schema)
	}
	if e.Version != "" {
		sql += " VERSION " + quoteIdentifier(e.Version)
	}
	if _, err := conn.Exec(ctx, sql+" CASCADE").ReadAll(); err != nil {
		return nil, err
	}
	return []string{fmt.Sprintf("extension %s was created in database %s", e.Name, database)}, nil
}

func (e Extension) update(ctx context.Context, conn *pgconn.PgConn, database, has string) ([]string, error) {
	want := e.Version
	if want == "" {
		rows, err := query(ctx, conn, "SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = $1", e.Name)
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			return []string{fmt.Sprintf("extension %s of database %s is not in this image", e.Name, database)}, nil
		}
		want = rows[0][0]
	}
	if has == want {
		return nil, nil
	}
	rows, err := query(ctx, conn, "SELECT 1 FROM pg_catalog.pg_extension_update_paths($1::name) WHERE source = $2 AND target = $3 AND path IS NOT NULL", e.Name, has, want)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return []string{fmt.Sprintf("extension %s of database %s stays at version %s: the image has no update path to %s", e.Name, database, has, want)}, nil
	}
	if _, err := conn.Exec(ctx, "ALTER EXTENSION "+quoteIdentifier(e.Name)+" UPDATE TO "+quoteIdentifier(want)).ReadAll(); err != nil {
		return nil, err
	}
	return []string{fmt.Sprintf("extension %s of database %s was updated from %s to %s", e.Name, database, has, want)}, nil
}
