package install

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/secrets"
	"github.com/sovereign-sql/sov/internal/host/tailscale"
)

// NodeOf returns the last node on a tailnet of a machine on a phone, or nil if it has no record of
// one. The machine may be stopped or removed, as long as its data is there.
func NodeOf(ctx context.Context, p device.Phone, machine string) (*guestapi.TailnetNode, error) {
	vm, err := p.Root().VM(machine)
	if err != nil {
		return nil, err
	}
	text, err := device.Output(ctx, p, "sh", "-c", `[ ! -e "$1" ] || cat "$1"`, "sh", vm.Node())
	if err != nil || len(text) == 0 {
		return nil, err
	}
	node := new(guestapi.TailnetNode)
	if err := json.Unmarshal(text, node); err != nil {
		return nil, fmt.Errorf("the record of the node of %s on %s: %w", machine, p.Name(), err)
	}
	return node, nil
}

// RemoveNode removes a machine's former node from its tailnet with the API at an address, which
// defaults to Tailscale's, if the machine's secrets on this computer include a token. It returns
// what it did, as a text, or "".
func RemoveNode(ctx context.Context, store *secrets.Store, api, machine string, node *guestapi.TailnetNode) (string, error) {
	has, err := store.Has(machine, recipe.SecretTailscaleAPI)
	if err != nil || !has || node == nil {
		return "", err
	}
	token, err := store.Get(ctx, machine, recipe.SecretTailscaleAPI)
	if err != nil {
		return "", err
	}
	found, err := tailscale.New(api, string(token)).Remove(ctx, *node)
	switch {
	case err != nil:
		return "", err
	case !found:
		return "the node " + node.Name + " (" + node.ID + ") was not in its tailnet any more", nil
	}
	return "the node " + node.Name + " (" + node.ID + ") was removed from its tailnet", nil
}
