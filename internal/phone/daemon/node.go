package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// noteNode records the machine's node on a tailnet, for when its guest no longer runs.
func noteNode(vm phonepath.VM, now *guestapi.TailnetNode) error {
	if now == nil {
		return nil
	}
	if before, err := lastNode(vm); err == nil && before != nil && *before == *now {
		return nil
	}
	return writeFile(vm.Node(), now)
}

// lastNode returns the machine's last node, or nil.
func lastNode(vm phonepath.VM) (*guestapi.TailnetNode, error) {
	text, err := os.ReadFile(vm.Node())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	node := new(guestapi.TailnetNode)
	if err == nil {
		err = json.Unmarshal(text, node)
	}
	if err != nil {
		return nil, fmt.Errorf("the record of the machine's node: %w", err)
	}
	return node, nil
}
