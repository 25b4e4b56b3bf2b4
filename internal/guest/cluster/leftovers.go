package cluster

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// newRoles is a role whose members are the roles that a restore created. It is created in the same
// transaction as they are, and dropped in the transaction that renames the databases.
const newRoles = ours + "new roles"

// DropLeftovers drops the databases and roles of interrupted restores, for example after a power
// cut, and returns their names. No restore may be running.
func DropLeftovers(ctx context.Context, socket string) (dropped []string, err error) {
	conn, err := connectTo(ctx, socket, "template1")
	if err == nil {
		defer conn.Close(ctx)
		dropped, err = dropOurs(ctx, conn)
	}
	if err != nil {
		return dropped, fmt.Errorf("drop what restores have left: %w", err)
	}
	return dropped, nil
}

// dropOurs drops databases and roles of restores. A restored database that was swapped in does not
// have such a name any more.
func dropOurs(ctx context.Context, conn *pgconn.PgConn) (dropped []string, err error) {
	rows, err := query(ctx, conn, "SELECT datname FROM pg_catalog.pg_database WHERE datname LIKE $1", ours+"%")
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if _, err := conn.Exec(ctx, "DROP DATABASE "+quoteIdentifier(row[0])+" WITH (FORCE)").ReadAll(); err != nil {
			return dropped, err
		}
		dropped = append(dropped, row[0])
	}
	rows, err = query(ctx, conn, "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = $1 OR oid IN (SELECT a.member FROM pg_catalog.pg_auth_members a "+
		"JOIN pg_catalog.pg_roles r ON r.oid = a.roleid WHERE r.rolname = $1)", newRoles)
	if err != nil || len(rows) == 0 {
		return dropped, err
	}
	var names []string
	for _, row := range rows {
		names = append(names, quoteIdentifier(row[0]))
		dropped = append(dropped, "role "+row[0])
	}
	roles := strings.Join(names, ", ") // all at once: they may depend on each other
	_, err = conn.Exec(ctx, "DROP OWNED BY "+roles+"; DROP ROLE "+roles).ReadAll()
	return dropped, err
}
