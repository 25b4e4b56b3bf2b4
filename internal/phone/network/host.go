package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Options configure a Host.
type Options struct {
	Ledger string // path of the ledger; its folder exists. FILE.lock is in the same folder
	// IPTables is the path of iptables; empty: Android's, else the one in PATH. iptables-restore is
	// in the same folder.
	IPTables string
	// NDC is the path of ndc, the client of netd; empty: Android's. It need not exist.
	NDC string
	Log func(string) // called with lines for the user; may be nil
}

// A Host is the network of the computer that this program runs on. Its methods may be called by
// several processes at once: they lock the ledger.
type Host struct {
	path   string
	proc   string
	bootID string
	tables *iptables
	ndc    string // empty if ndc does not exist
	// noOwner says that the kernel's iptables does not support the owner match.
	noOwner bool
	held    *ledger // set during Up and Down
	log     func(string)
	step    func(string) // called between two changes, for tests
	// Follow's source of changes and its polling interval. Tests replace them.
	watch func(context.Context) (<-chan struct{}, error)
	poll  time.Duration
}

// Paths of the programs on Android.
const (
	androidIPTables = "/system/bin/iptables"
	androidNDC      = "/system/bin/ndc"
)

// Open returns the host, without changing anything.
func Open(o Options) (*Host, error) {
	h := &Host{path: o.Ledger, proc: "/proc", log: o.Log, step: func(string) {}, watch: watch, poll: slowPoll}
	if h.log == nil {
		h.log = func(string) {}
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("open the host's network: %w", err)
	}
	h.bootID = strings.TrimSpace(string(id))
	program := o.IPTables
	if program == "" {
		program = "iptables"
		if _, err := os.Stat(androidIPTables); err == nil {
			program = androidIPTables
		}
	}
	if program, err = exec.LookPath(program); err != nil {
		return nil, fmt.Errorf("open the host's network: iptables is needed: %w", err)
	}
	if h.path, err = filepath.Abs(o.Ledger); err != nil {
		return nil, err
	}
	h.tables = &iptables{program: program, state: map[string][]string{}}
	if h.ndc = o.NDC; h.ndc == "" {
		h.ndc = androidNDC
	}
	if _, err := os.Stat(h.ndc); err != nil {
		h.ndc = ""
	}
	return h, nil
}

// A Report is the result of Up.
type Report struct {
	Uplink   Uplink   // zero without an uplink
	Changed  []string // what was created, replaced or removed, as texts
	Carrier  bool     // a process has the TAP interface open
	Warnings []string // side effects that the user may not expect, a sentence each
}

// Up brings the network to the state that vm describes: it creates what is missing, removes what vm
// does not need any more, and keeps everything else. Without an uplink it sets up everything except
// the route to it, and does not fail. After an error the ledger has everything created so far, and
// the next Up or Down continues from there.
func (h *Host) Up(ctx context.Context, vm VM) (Report, error) {
	if err := vm.validate(); err != nil {
		return Report{}, fmt.Errorf("set up the network of %s: %w", vm.Name, err)
	}
	report, err := h.up(ctx, vm)
	if err != nil {
		err = fmt.Errorf("set up the network of %s: %w", vm.Name, err)
	}
	return report, err
}

func (h *Host) up(ctx context.Context, vm VM) (report Report, err error) {
	unlock, err := h.lock(ctx)
	if err != nil {
		return report, err
	}
	defer unlock()
	h.tables.forget()
	l, err := h.load(vm.Name)
	if err != nil {
		return report, err
	}
	h.held = l
	defer func() { h.held = nil }()
	if err := refuseClash(vm); err != nil {
		return report, err
	}
	report.Uplink, err = findUplink(vm.Uplink)
	if err != nil && !errors.Is(err, ErrNoUplink) {
		return report, err
	}
	if vm.Routing == Auto {
		vm.Routing = l.routing(vm.Name)
	}
	if vm.Routing == MainFirst && report.Uplink.Interface != "" {
		if report.Warnings, err = takes(report.Uplink); err != nil {
			return report, err
		}
	}
	before, known := l.Uplinks[vm.Name]
	want := h.resources(vm, report.Uplink)
	if err := h.release(ctx, l, vm.Name, want, &report); err != nil {
		return report, err
	}
	filled := false
	for _, r := range want {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		if _, isChain := r.(chain); !isChain && !filled {
			if err := h.fillChains(vm, report.Uplink, &report); err != nil {
				return report, err
			}
			filled = true
		}
		if err := h.ensure(l, vm.Name, r, &report); err != nil {
			return report, fmt.Errorf("%s: %w", r, err)
		}
		if r == vm.tap() {
			if err := h.tune(vm, &report); err != nil {
				return report, fmt.Errorf("%s: %w", r, err)
			}
		}
	}
	if len(report.Changed) > 0 {
		h.askAgain()
	}
	if known && before.same(report.Uplink) {
		return report, nil
	}
	if known {
		h.forgetFlows(vm)
	}
	l.Uplinks[vm.Name] = report.Uplink
	return report, h.save(l)
}

// resources returns what vm needs, in the order of creation.
func (h *Host) resources(vm VM, u Uplink) []resource {
	var out []resource
	// Chains come first, so that they filter from the first packet on.
	for _, c := range h.chains(vm, u) {
		out = append(out, c.chain)
	}
	out = append(out, rpFilter("all"), vm.tap())
	out = append(out, vm.onTAP()...)
	out = append(out, h.forwarding())
	if vm.Routing == Scoped {
		out = append(out, rule{Priority: 1, Table: unix.RT_TABLE_MAIN, Prefix: vm.Subnet()})
		if u.Interface != "" {
			out = append(out, rule{Priority: 2, Table: u.Table, Link: vm.TAP})
		}
		return out
	}
	if u.Interface != "" {
		out = append(out, route{Link: u.Interface, Gateway: u.Gateway, Table: unix.RT_TABLE_MAIN})
	}
	return append(out, rule{Priority: 1, Table: unix.RT_TABLE_MAIN})
}

func (vm VM) tap() tap { return tap{Link: vm.TAP} }

// onTAP returns the resources that the kernel removes with the TAP interface.
func (vm VM) onTAP() []resource {
	return []resource{address{Link: vm.TAP, Prefix: vm.Host}, rpFilter(vm.TAP)}
}

// ensure records that owner needs r, and creates r if it does not exist.
func (h *Host) ensure(l *ledger, owner string, r resource, report *Report) error {
	exists, err := r.exists(h)
	if err != nil {
		return err
	}
	if c, ok := r.(claimed); ok && exists {
		if err := c.checkOwner(owner, l.find(r) >= 0); err != nil {
			return err
		}
	}
	if err := h.note(l, owner, r, exists); err != nil {
		return err
	}
	if o, ok := r.(ordered); ok && exists && !l.Entries[l.find(r)].Found {
		if exists, err = o.inPlace(); err != nil {
			return err
		}
		if !exists {
			if err := r.undo(h, ""); err != nil {
				return err
			}
		}
	}
	if _, isChain := r.(chain); exists || isChain {
		return nil // fillChains creates a chain with its rules
	}
	if err := r.make(h); err != nil {
		return err
	}
	h.step(r.String())
	report.Changed = append(report.Changed, "made "+r.String())
	return nil
}

// note ensures that the ledger on the disk has r, its owner, and the value that r will replace.
func (h *Host) note(l *ledger, owner string, r resource, exists bool) error {
	i := l.find(r)
	known := i >= 0
	if !known {
		l.Entries = append(l.Entries, entry{resource: r, Found: exists && r.foreign()})
		i = len(l.Entries) - 1
	}
	e := &l.Entries[i]
	old := *e
	if !exists {
		e.Found = false // its creator removed it meanwhile, and the new one belongs to sov
	}
	if v, ok := r.(replacing); ok && !(known && exists) {
		// Restore the last value that another program set.
		before, err := v.current(h)
		if err != nil {
			return err
		}
		e.Before = before
	}
	if !slices.Contains(e.Owners, owner) {
		e.Owners = append(e.Owners, owner)
	}
	if known && e.Found == old.Found && e.Before == old.Before && len(e.Owners) == len(old.Owners) {
		return nil
	}
	return h.save(l)
}

// release removes owner from all entries in the ledger except keep, and undoes entries without an
// owner, in reverse order of creation.
func (h *Host) release(ctx context.Context, l *ledger, owner string, keep []resource, report *Report) error {
	var faults []error
	for _, r := range l.owned(owner) {
		if slices.Contains(keep, r) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := h.leave(l, owner, r, report); err != nil {
			faults = append(faults, fmt.Errorf("remove %s: %w", r, err))
		}
	}
	return errors.Join(faults...)
}

// leave undoes r unless another owner needs it or it was found, and then removes it from the
// ledger.
func (h *Host) leave(l *ledger, owner string, r resource, report *Report) error {
	i := l.find(r)
	e := &l.Entries[i]
	if len(e.Owners) > 1 {
		e.Owners = slices.DeleteFunc(e.Owners, func(o string) bool { return o == owner })
		return h.save(l)
	}
	if !e.Found {
		if err := r.undo(h, e.Before); err != nil {
			return err
		}
		h.step(r.String())
		report.Changed = append(report.Changed, "removed "+r.String())
	}
	l.Entries = slices.Delete(l.Entries, i, i+1)
	return h.save(l)
}

// Down removes everything that only the named machine needs. It is not an error if there is
// nothing. It reports what it cannot remove, keeps that in the ledger, and continues.
func (h *Host) Down(ctx context.Context, name string) (Report, error) {
	var report Report
	unlock, err := h.lock(ctx)
	if err != nil {
		return report, fmt.Errorf("take down the network of %s: %w", name, err)
	}
	defer unlock()
	h.tables.forget()
	l, err := h.load(name)
	if err == nil {
		err = h.release(ctx, l, name, nil, &report)
	}
	if _, known := l.uplink(name); known && err == nil {
		delete(l.Uplinks, name)
		err = h.save(l)
	}
	if err != nil {
		return report, fmt.Errorf("take down the network of %s: %w", name, err)
	}
	return report, nil
}

func (l *ledger) uplink(name string) (Uplink, bool) {
	if l == nil {
		return Uplink{}, false
	}
	u, known := l.Uplinks[name]
	return u, known
}
