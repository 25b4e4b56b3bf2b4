package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/terminal"
)

// listLimit is the timeout of one phone: its runner queries each running guest.
const listLimit = time.Minute

// An Inventory is the machines on one phone.
type Inventory struct {
	Device   string            `json:"device"`
	Machines []*health.Machine `json:"machines"`
	Error    string            `json:"error,omitempty"` // why the phone could not be queried
}

// List queries phones concurrently for their machines. A phone without sov has none.
func List(ctx context.Context, phones []device.Phone) []Inventory {
	inventories := make([]Inventory, len(phones))
	var wait sync.WaitGroup
	for i, p := range phones {
		wait.Go(func() {
			inventories[i] = Inventory{Device: p.Name(), Machines: []*health.Machine{}}
			s := &Site{Phone: p, Out: io.Discard, ErrOut: io.Discard}
			text, err := s.Ask(ctx, listLimit, "list", "")
			if errors.Is(err, ErrNoRunner) {
				return
			}
			if err == nil {
				err = json.Unmarshal(text, &inventories[i].Machines)
			}
			if err != nil {
				inventories[i].Error = terminal.Harmless(fmt.Sprint(err))
			}
		})
	}
	wait.Wait()
	return inventories
}
