package cluster

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// DropLeftovers drops the databases of interrupted restores, for example after a power cut, and
// returns their names. No restore may be running.
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

// dropOurs drops databases of restores. A restored database that was swapped in does not have such
// a name any more.
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
	return dropped, nil
}
