package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact"
)

const (
	ledgerFormat = 1
	maxLedger    = 1 << 20 // bytes; a machine's things take some 3 KiB
)

// An entry is a thing with those who need it.
type entry struct {
	thing
	Owners []string `json:"owners"`           // names of machines; the last one to leave takes the thing along
	Found  bool     `json:"found,omitempty"`  // it was there before us, and stays
	Before string   `json:"before,omitempty"` // sysctl: its value before ours
}

// A ledger is what was done to the network since the kernel started.
type ledger struct {
	Format  int               `json:"format"`
	BootID  string            `json:"boot_id"`
	Entries []entry           `json:"entries"` // in the order in which they were made
	Uplinks map[string]Uplink `json:"uplinks"` // by machine, as last set up
}

func (l *ledger) find(t thing) int {
	return slices.IndexFunc(l.Entries, func(e entry) bool { return e.thing == t })
}

// owned returns the things of an owner, the last made first.
func (l *ledger) owned(owner string) []thing {
	var out []thing
	for _, e := range slices.Backward(l.Entries) {
		if slices.Contains(e.Owners, owner) {
			out = append(out, e.thing)
		}
	}
	return out
}

// decodeLedger reads what encode wrote. Nothing in it is trusted to be sound: the file may be damaged.
func decodeLedger(src []byte) (*ledger, error) {
	d := json.NewDecoder(bytes.NewReader(src))
	d.DisallowUnknownFields()
	l := new(ledger)
	if err := d.Decode(l); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("there is text after the object")
	}
	if l.Format != ledgerFormat {
		return nil, fmt.Errorf("its format is %d, this program reads %d", l.Format, ledgerFormat)
	}
	for i, e := range l.Entries {
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return l, nil
}

// check refuses what this package never writes: undoing it could do harm.
func (e entry) check() error {
	if len(e.Owners) == 0 {
		return errors.New("it has no owner")
	}
	for _, owner := range e.Owners {
		if err := artifact.CheckName(owner); err != nil {
			return fmt.Errorf("its owner: %w", err)
		}
	}
	known := map[kind]bool{
		kindTAP:     e.Link != "",
		kindAddress: e.Link != "" && e.Prefix.IsValid() && e.Prefix.Addr().Is4(),
		kindRule:    e.Priority > 0 && e.Table > 0 && (!e.Prefix.IsValid() || e.Prefix.Addr().Is4()),
		kindRoute:   e.Link != "" && e.Table > 0 && (!e.Gateway.IsValid() || e.Gateway.Is4()),
		kindSysctl:  e.Path != "" && filepath.IsLocal(e.Path) && e.Value != "",
		kindChain:   isOurChain(e.Chain) && (e.IPTable == tableFilter || e.IPTable == tableNAT) && isBuiltIn(e.From),
	}
	if !known[e.Kind] {
		return fmt.Errorf("it describes no %q that this program makes", e.Kind)
	}
	return nil
}

// Suffixes of the files beside a ledger: its lock, the next one while it is written, and one that was damaged.
const (
	lockSuffix    = ".lock"
	newSuffix     = ".new"
	damagedSuffix = ".damaged"
)

// LedgerFiles are all files that there may be of a ledger.
func LedgerFiles(ledger string) []string {
	return []string{ledger, ledger + lockSuffix, ledger + newSuffix, ledger + damagedSuffix}
}

// lock waits until no other process works on the network, and returns the function that lets the next one.
func (h *Host) lock(ctx context.Context) (func(), error) {
	path := h.path + lockSuffix
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the network's ledger: %w", err)
	}
	for deadline := time.Now().Add(lockTimeout); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			f.Close()
			return nil, fmt.Errorf("lock %s, which another sov-runner holds: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}

const (
	lockTimeout = time.Minute // iptables may wait for Android's netd, and netd is slow at boot
	lockPoll    = 20 * time.Millisecond
)

// load reads the ledger on behalf of a machine. One of an earlier boot is empty: the kernel forgot all that it tells of.
// A damaged one is moved aside and said to be so; what carries our marks is found again without it.
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
		h.log(fmt.Sprintf("the network's ledger %s is damaged (%v): moved to %s, and made anew from what carries our marks; "+
			"the sysctls net.ipv4.ip_forward and net.ipv4.conf.all.rp_filter stay as they are", h.path, err, aside))
		if err := os.Rename(h.path, aside); err != nil {
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

// save makes l the ledger, durably, or leaves the one there was.
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
	temporary := h.path + newSuffix
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, h.path); err != nil {
		return err
	}
	h.step("ledger")
	dir, err := os.Open(filepath.Dir(h.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
