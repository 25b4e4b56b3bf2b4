package cluster

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// An Account is a role that may log in, and the database it works in.
type Account struct {
	Role      string
	Database  string
	Superuser bool
}

// Ensure creates the role and the database in the server that listens on socket, if they do not
// exist, and returns a description of what it did. It does not set a password: see SetPassword.
//
// An existing database keeps its owner. A role that does not own it may connect and create
// temporary tables; the owner can grant more.
func (a Account) Ensure(ctx context.Context, socket string) (did []string, err error) {
	conn, err := connect(ctx, socket)
	if err != nil {
		return nil, fmt.Errorf("make role %s: %w", a.Role, err)
	}
	defer conn.Close(ctx)
	did, err = a.ensureRole(ctx, conn, did)
	if err != nil {
		return did, fmt.Errorf("make role %s: %w", a.Role, err)
	}
	did, err = a.ensureDatabase(ctx, conn, did)
	if err != nil {
		return did, fmt.Errorf("make database %s for role %s: %w", a.Database, a.Role, err)
	}
	return did, nil
}

func (a Account) ensureRole(ctx context.Context, conn *pgconn.PgConn, did []string) ([]string, error) {
	rows, err := query(ctx, conn, "SELECT rolcanlogin, rolsuper FROM pg_catalog.pg_roles WHERE rolname = $1", a.Role)
	if err != nil {
		return did, err
	}
	verb, done := "CREATE", "role %s was made"
	if len(rows) == 1 {
		if rows[0][0] == "t" && (rows[0][1] == "t") == a.Superuser {
			return did, nil
		}
		verb, done = "ALTER", "role %s was changed"
	}
	super := " NOSUPERUSER"
	if a.Superuser {
		super = " SUPERUSER"
	}
	if _, err := conn.Exec(ctx, verb+" ROLE "+quoteIdentifier(a.Role)+" LOGIN"+super).ReadAll(); err != nil {
		return did, err
	}
	return append(did, fmt.Sprintf(done, a.Role)), nil
}

func (a Account) ensureDatabase(ctx context.Context, conn *pgconn.PgConn, did []string) ([]string, error) {
	rows, err := query(ctx, conn, "SELECT pg_catalog.has_database_privilege($2::name, oid, 'CONNECT') AND "+
		"pg_catalog.has_database_privilege($2::name, oid, 'TEMPORARY') FROM pg_catalog.pg_database WHERE datname = $1", a.Database, a.Role)
	if err != nil {
		return did, err
	}
	database, role := quoteIdentifier(a.Database), quoteIdentifier(a.Role)
	command, done := "CREATE DATABASE "+database+" OWNER "+role, fmt.Sprintf("database %s was made", a.Database)
	if len(rows) == 1 {
		if rows[0][0] == "t" {
			return did, nil
		}
		command = "GRANT CONNECT, TEMPORARY ON DATABASE " + database + " TO " + role
		done = fmt.Sprintf("role %s was let into database %s", a.Role, a.Database)
	}
	if _, err := conn.Exec(ctx, command).ReadAll(); err != nil {
		return did, err
	}
	return append(did, done), nil
}

// query returns the rows of a statement as text; NULL becomes "".
func query(ctx context.Context, conn *pgconn.PgConn, sql string, args ...string) ([][]string, error) {
	var values [][]byte
	for _, a := range args {
		values = append(values, []byte(a))
	}
	result := conn.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	if result.Err != nil {
		return nil, result.Err
	}
	var rows [][]string
	for _, row := range result.Rows {
		var fields []string
		for _, field := range row {
			fields = append(fields, string(field))
		}
		rows = append(rows, fields)
	}
	return rows, nil
}
