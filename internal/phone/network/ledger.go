package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/strictjson"
)

const (
	ledgerFormat = 1
	maxLedger    = 1 << 20 // bytes; a machine's entries have about 3 KiB
)

// A ledger lists the changes to the network since the kernel started.
type ledger struct {
	Format  int               `json:"format"`
	BootID  string            `json:"boot_id"`
	Entries []entry           `json:"entries"` // in the order of creation
	Uplinks map[string]Uplink `json:"uplinks"` // by machine, as last set up
}

func (l *ledger) find(r resource) int {
	return slices.IndexFunc(l.Entries, func(e entry) bool { return e.resource == r })
}

// routing returns the chosen mode of a machine with Routing Auto.
func (l *ledger) routing(owner string) Routing {
	if slices.Contains(l.owned(owner), resource(rule{Priority: 1, Table: unix.RT_TABLE_MAIN})) {
		return MainFirst
	}
	return Scoped
}

// owned returns the resources of an owner, in reverse order of creation.
func (l *ledger) owned(owner string) []resource {
	var out []resource
	for _, e := range slices.Backward(l.Entries) {
		if slices.Contains(e.Owners, owner) {
			out = append(out, e.resource)
		}
	}
	return out
}

// decodeLedger decodes the format of save and validates everything, because the file may be
// damaged.
func decodeLedger(src []byte) (*ledger, error) {
	var file struct {
		ledger
		Entries []json.RawMessage `json:"entries"`
	}
	if err := strictjson.Unmarshal(src, &file); err != nil {
		return nil, err
	}
	l := &file.ledger
	if l.Format != ledgerFormat {
		return nil, fmt.Errorf("its format is %d, this program reads %d", l.Format, ledgerFormat)
	}
	l.Entries = make([]entry, 0, len(file.Entries))
	for i, text := range file.Entries {
		e, err := decodeEntry(text)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		l.Entries = append(l.Entries, e)
	}
	return l, nil
}

// Suffixes of a ledger's files: its lock, a temporary file of an earlier version, and a damaged
// ledger.
const (
	lockSuffix    = ".lock"
	newSuffix     = ".new"
	damagedSuffix = ".damaged"
)

// LedgerFiles returns all possible files of a ledger, without those that durable.RemoveLeftovers
// removes.
func LedgerFiles(ledger string) []string {
	return []string{ledger, ledger + lockSuffix, ledger + newSuffix, ledger + damagedSuffix}
}

// lock locks the network against other processes and returns the function that unlocks it.
func (h *Host) lock(ctx context.Context) (func(), error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lockTimeout, fmt.Errorf("another sov-runner has held it for %v", lockTimeout))
	defer cancel()
	l, err := durable.WaitLock(ctx, h.path+lockSuffix, durable.Exclusive, durable.LockOptions{})
	if err != nil {
		return nil, fmt.Errorf("lock the network's ledger: %w", err)
	}
	return l.Release, nil
}

const lockTimeout = time.Minute // iptables may wait for Android's netd, and netd is slow at boot

// load reads the ledger on behalf of a machine. That of an earlier boot is treated as empty,
// because its resources do not exist any more. A damaged ledger is moved aside with a log line, and
// rebuilt from sov's marks.
func (h *Host) load(name string) (*ledger, error) {
	f, err := os.Open(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return h.rebuild(name)
	}
	if err != nil {
		return nil, fmt.Errorf("read the network's ledger: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxLedger))
	if err != nil {
		return nil, fmt.Errorf("read the network's ledger: %w", err)
	}
	l, err := decodeLedger(text)
	if err != nil {
		aside := h.path + damagedSuffix
		h.log(fmt.Sprintf("the network's ledger %s is damaged (%v): moved to %s, and rebuilt from sov's marks; "+
			"the sysctls net.ipv4.ip_forward and net.ipv4.conf.all.rp_filter stay as they are", h.path, err, aside))
		if err := durable.Rename(h.path, aside); err != nil {
			return nil, fmt.Errorf("move the damaged ledger aside: %w", err)
		}
		return h.rebuild(name)
	}
	if l.BootID != h.bootID {
		return h.emptyLedger(), nil
	}
	if l.Uplinks == nil {
		l.Uplinks = map[string]Uplink{}
	}
	return l, nil
}

// save atomically replaces the ledger with l and syncs it.
func (h *Host) save(l *ledger) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the network's ledger, without which nothing is changed: %w", err)
		}
	}()
	text, err := json.MarshalIndent(l, "", " ")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(h.path, append(text, '\n'), 0o600); err != nil {
		return err
	}
	h.step("ledger")
	return nil
}
