package daemon

import (
	"context"
	"fmt"
	"io"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// serviceLog prints the log of one of the guest's services. The guest stores it across restarts.
func serviceLog(ctx context.Context, vm phonepath.VM, o LogOptions, w io.Writer) error {
	state, err := readState(vm)
	if err != nil {
		return fmt.Errorf("logs of %s: %w", vm.Name, err)
	}
	token := readToken(vm)
	if token == "" || !state.Network.Endpoint.IsValid() {
		return fmt.Errorf("logs of %s: it does not run (%s), and the log of a service is the guest's to tell: `sov logs %s` shows its console, `sov start %s` starts it",
			vm.Name, state.Phase, vm.Name, vm.Name)
	}
	query := guestapi.LogQuery{Service: o.Service, Lines: o.Lines, Follow: o.Follow}
	if err := guestapi.NewClient(state.Network.Endpoint, token).Logs(ctx, query, w); err != nil {
		return fmt.Errorf("logs of %s: %w", vm.Name, err)
	}
	return nil
}
