package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// Backup writes a backup of a running machine to w, as a stream of package backup; with identity,
// it includes the machine's tailnet node.
func Backup(ctx context.Context, root phonepath.Root, name string, w io.Writer, identity bool) error {
	client, err := clientOf(root, name)
	if err != nil {
		return err
	}
	return client.Backup(ctx, w, identity)
}

// maxBackupNote is the largest record of a backup, in bytes.
const maxBackupNote = 1 << 20

// NoteBackup records that a computer has saved a backup of the machine. r has a health.Backup in
// JSON; its time is replaced by the phone's.
func NoteBackup(root phonepath.Root, name string, r io.Reader) error {
	vm, err := lookUp(root, name)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxBackupNote))
	if err != nil {
		return fmt.Errorf("record the backup of %s: %w", name, err)
	}
	var note health.Backup
	if err := json.Unmarshal(text, &note); err != nil {
		return fmt.Errorf("record the backup of %s: %w", name, err)
	}
	note.At = time.Now().UTC().Truncate(time.Second)
	return writeFile(vm.Backup(), note)
}

// lastBackup returns the record of the last backup, or nil.
func lastBackup(vm phonepath.VM) (*health.Backup, error) {
	text, err := os.ReadFile(vm.Backup())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	note := new(health.Backup)
	if err == nil {
		err = json.Unmarshal(text, note)
	}
	if err != nil {
		return nil, fmt.Errorf("the record of the last backup: %w", err)
	}
	return note, nil
}

// Restore restores a running machine from a stream, and reports the guest's events.
func Restore(ctx context.Context, root phonepath.Root, name string, r io.Reader, event func(backup.Event)) error {
	client, err := clientOf(root, name)
	if err != nil {
		return err
	}
	return client.Restore(ctx, r, event)
}

// clientOf returns a client of a running machine's guest.
func clientOf(root phonepath.Root, name string) (*guestapi.Client, error) {
	vm, err := lookUp(root, name)
	if err != nil {
		return nil, err
	}
	state, err := readState(vm)
	if err != nil {
		return nil, err
	}
	token := readToken(vm)
	if token == "" || !state.Network.Endpoint.IsValid() {
		return nil, fmt.Errorf("%s does not run: `sov start %[1]s` starts it", name)
	}
	return guestapi.NewClient(state.Network.Endpoint, token), nil
}
