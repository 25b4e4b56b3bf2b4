//go:build linux

package cluster

import (
	"context"
	"fmt"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

// Report returns PostgreSQL's part of the guest's status. The server listens on socket, uses the
// directory data, has the settings fixed on its command line, and runs as service.
func Report(ctx context.Context, socket, data string, fixed []string, service guestapi.Service) *guestapi.Postgres {
	p := report(ctx, socket, service)
	settings := Settings{Data: data}
	if aside, err := settings.Aside(); err == nil { // the cluster may not exist
		p.Aside = aside
	}
	p.Ignored, _ = settings.Ignored(fixed)
	return p
}

func report(ctx context.Context, socket string, service guestapi.Service) *guestapi.Postgres {
	if service.State != guestapi.StateReady {
		fault := "the server is " + service.State
		if service.Reason != "" {
			fault += ": " + service.Reason
		}
		return &guestapi.Postgres{Fault: fault}
	}
	h, err := examine(ctx, socket)
	if err != nil {
		return &guestapi.Postgres{Version: h.Version, Fault: fmt.Sprintf("the server runs and does not answer: %v", err)}
	}
	return &guestapi.Postgres{Ready: true, Version: h.Version, Connections: h.Connections}
}

// health is the state of a server.
type health struct {
	Version     string // such as "17.6"
	Connections int    // of clients, without this one
}

// examine queries the state of the server that listens on socket.
func examine(ctx context.Context, socket string) (health, error) {
	conn, err := connect(ctx, socket)
	if err != nil {
		return health{}, fmt.Errorf("ask the server how it is: %w", err)
	}
	defer conn.Close(ctx)
	h := health{Version: conn.ParameterStatus("server_version")}
	rows, err := query(ctx, conn, "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()")
	if err == nil && len(rows) == 1 {
		_, err = fmt.Sscan(rows[0][0], &h.Connections)
	}
	if err != nil {
		return h, fmt.Errorf("ask the server how it is: %w", err)
	}
	return h, nil
}
