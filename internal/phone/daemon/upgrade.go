package daemon

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/phone/slots"
)

// Upgrade runs the operation do on PostgreSQL's cluster in a running machine's guest, and reports
// its events.
func Upgrade(ctx context.Context, root phonepath.Root, name, do string, event func(backup.Event)) error {
	client, err := clientOf(root, name)
	if err != nil {
		return err
	}
	return client.Upgrade(ctx, do, event)
}

// checkDatabases returns an error if the version in the other slot cannot read the databases,
// because they were upgraded. If the server does not answer, it returns nil: the guest checks
// again.
func checkDatabases(ctx context.Context, root phonepath.Root, vm phonepath.VM) error {
	current, err := slots.Current(vm)
	if err != nil {
		return nil // the rollback reports the error
	}
	client, err := clientOf(root, vm.Name)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, guestPatience)
	defer cancel()
	status, err := client.Status(ctx)
	if err != nil || status.Postgres == nil {
		return nil
	}
	other, err := installed.Load(vm.Slot(slots.Other(current)))
	if err != nil {
		return nil
	}
	return readable(status.Postgres, other)
}

// readable returns an error unless a version of the machine can read the databases of a server.
func readable(now *guestapi.Postgres, a *installed.Artifact) error {
	digits, _, _ := strings.Cut(now.Version, ".")
	major, err := strconv.Atoi(digits)
	brings := a.Manifest.PostgresMajors()
	if err != nil || len(brings) == 0 || slices.Contains(brings, major) {
		return nil
	}
	return fmt.Errorf("the databases belong to PostgreSQL %d, and version %s in the other slot has %d, which cannot read them: push a version with %[1]d; "+
		"databases of %[3]d come back only from a backup, in a new data disk, without what was written since", major, a.Manifest.Version, brings[0])
}
