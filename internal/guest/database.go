//go:build linux

package guest

import (
	"context"
	"fmt"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/cluster"
)

// databaseStatus is PostgreSQL's part of the status, nil where the image has none.
func (m *machine) databaseStatus(ctx context.Context, services []guestapi.Service) *guestapi.Postgres {
	spec, service := m.describedService(guestspec.ServicePostgres, services)
	if spec == nil || !strings.HasPrefix(spec.Ready.Postgres, "/") {
		return nil
	}
	if service.State != guestapi.StateReady {
		fault := "the server is " + service.State
		if service.Reason != "" {
			fault += ": " + service.Reason
		}
		return &guestapi.Postgres{Fault: fault}
	}
	health, err := cluster.Examine(ctx, spec.Ready.Postgres)
	if err != nil {
		return &guestapi.Postgres{Version: health.Version, Fault: fmt.Sprintf("the server runs and does not answer: %v", err)}
	}
	return &guestapi.Postgres{Ready: true, Version: health.Version, Connections: health.Connections}
}
