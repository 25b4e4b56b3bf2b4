package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/phone/address"
	"github.com/sovereign-sql/sov/internal/phone/android"
	"github.com/sovereign-sql/sov/internal/phone/crosvm"
	"github.com/sovereign-sql/sov/internal/phone/network"
	"github.com/sovereign-sql/sov/internal/phone/slots"
)

// A Daemon keeps one machine running until it is told to stop.
type Daemon struct {
	Root    phonepath.Root
	Name    string
	Version string          // the program's
	Output  *os.File        // receives log lines and crosvm's output
	Again   <-chan struct{} // a value restarts a machine that was given up, or is off

	vm        phonepath.VM
	settings  Settings
	phone     android.Phone
	host      *network.Host
	state     *stateFile
	policy    policy
	renewed   chan struct{} // the TAP interface was re-created while the machine runs
	routing   network.Decision
	starts    int    // of crosvm
	awake     func() // ends stayAwake with awakeMode; nil if the phone may sleep
	awakeMode vmspec.Awake
	console   int64 // size of the console's log when crosvm was started

	keys        dataKeys
	confinement confinement
	configPlace configPlace
	trial       *slots.Trial // of the version to start; nil if it has been ready before
}

// Run runs the daemon. It returns when ctx ends, after it has shut down the machine cleanly and
// removed its network. The error wraps errRunning if another daemon runs for this machine.
func (d *Daemon) Run(ctx context.Context) (err error) {
	if d.vm, err = d.Root.VM(d.Name); err != nil {
		return err
	}
	// This must happen before the daemon becomes visible: then its parent may end, and Android
	// would kill the parent's cgroup.
	d.phone = android.Phone{Log: d.log}
	d.phone.LeaveCgroup()
	if err := checkTrusted(string(d.Root), d.vm.Dir()); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not installed: %w", d.Name, err)
	} else if err != nil {
		return err
	}
	lock, err := takeLock(d.vm)
	if err != nil {
		return err
	}
	defer lock.Release()
	d.open()
	for {
		if err = d.keep(ctx); !errors.Is(err, errAgain) {
			break
		}
		// The caller waits for a change of phase, and the next phase could be the same.
		d.state.change(func(s *runnerapi.State) { s.Phase, s.Reason = runnerapi.Starting, "" })
	}
	if ctx.Err() != nil {
		err = nil // it was told to stop: not an error
	}
	return errors.Join(err, d.close())
}

func (d *Daemon) log(line string) {
	fmt.Fprintf(d.Output, "%s %s\n", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), line)
}

// open writes the first state, from which readers learn the progress.
func (d *Daemon) open() {
	d.state = &stateFile{path: d.vm.State(), now: time.Now, log: d.log}
	d.renewed = make(chan struct{}, 1)
	d.state.change(func(s *runnerapi.State) {
		*s = runnerapi.State{Format: runnerapi.Format, Name: d.Name, Phase: runnerapi.Starting, Runner: d.Version,
			Daemon: os.Getpid(), BootID: bootID(), Since: time.Now().UTC()}
	})
}

// close undoes the daemon's changes to the phone.
func (d *Daemon) close() error {
	d.letSleep()
	d.keys.close()
	err := errors.Join(d.leaveNetwork(), removeRunFiles(d.vm))
	d.state.change(func(s *runnerapi.State) {
		s.Phase, s.Reason, s.Daemon, s.Crosvm = runnerapi.Down, "", 0, 0
		if err != nil {
			s.Reason = err.Error()
		}
	})
	return err
}

// leaveNetwork removes the machine from the phone's network while the machine is not running.
// Otherwise no process would follow the uplink, and in main-first mode the phone's own packets
// would still use the old one.
func (d *Daemon) leaveNetwork() error {
	if d.host == nil {
		return nil
	}
	report, err := d.host.Down(context.Background(), d.Name)
	for _, change := range report.Changed {
		d.log("network: " + change)
	}
	d.state.change(func(s *runnerapi.State) {
		s.Network = runnerapi.Network{}
		if err != nil {
			s.Network.Fault = err.Error()
		}
	})
	return err
}

// keep prepares the phone and keeps the machine running.
func (d *Daemon) keep(ctx context.Context) error {
	d.confinement.android = d.phone.Is()
	d.protect(os.Getpid())
	var err error
	if d.settings, err = loadSettings(d.Root); err != nil {
		return d.fail(ctx, err)
	}
	if d.host, err = network.Open(network.Options{Ledger: d.Root.Ledger(), IPTables: d.settings.IPTables, Log: d.log}); err != nil {
		return d.fail(ctx, err)
	}
	booting, cancel := context.WithTimeout(ctx, d.settings.bootTimeout())
	err = d.phone.WaitBooted(booting)
	cancel()
	if err != nil {
		return d.fail(ctx, err)
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	if d.settings.LiftPhantoms { // it is slow, and the machine need not wait
		beside.Go(func() { d.phone.LiftPhantomLimit(ctx) })
	}
	if err := stopOrphans(ctx, d.vm, d.settings, d.log); err != nil {
		return d.fail(ctx, err)
	}
	if err := removeRunFiles(d.vm); err != nil {
		return d.fail(ctx, err)
	}
	if err := d.awaitOthers(ctx); err != nil {
		return err
	}
	d.policy = policy{limit: d.settings.crashLoop()}
	return d.loop(ctx)
}

func (d *Daemon) protect(pid int) {
	if err := d.phone.ProtectFromOOM(pid); err != nil {
		d.log(err.Error())
	}
}

// fail reports why the machine cannot be started, and waits for a request to try again or to end.
func (d *Daemon) fail(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	d.rest(runnerapi.Failed, err.Error())
	return d.await(ctx)
}

// rest records that the machine is not running and waits for a time or a request.
func (d *Daemon) rest(phase runnerapi.Phase, reason string) {
	if phase != runnerapi.Backoff {
		d.letSleep()
	}
	if err := d.leaveNetwork(); err != nil {
		d.log(err.Error())
	}
	d.state.change(func(s *runnerapi.State) { s.Phase, s.Reason, s.Crosvm = phase, reason, 0 })
}

// await waits until a restart is requested and returns errAgain.
func (d *Daemon) await(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-d.Again:
		return errAgain
	case <-d.keys.given: // nil for a machine that does not need keys
		return errAgain
	}
}

// errAgain ends a wait: the daemon starts over with the current version and settings.
var errAgain = errors.New("start afresh")

// loop starts the machine repeatedly.
func (d *Daemon) loop(ctx context.Context) error {
	for {
		if reason := batteryLow(android.Power("/sys"), d.settings.batteryStop()); reason != "" {
			if err := d.charge(ctx, reason); err != nil {
				return err
			}
		}
		exit, ready, err := d.live(ctx)
		if damage := new(damageError); ctx.Err() == nil && errors.As(err, damage) {
			if d.leaveDamaged(damage) {
				continue
			}
			return d.fail(ctx, damage)
		}
		if d.judge(ctx, exit, ready, err) {
			continue
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errRenewed):
			d.log("starting it again, with the new interface")
			continue
		case errors.Is(err, errBatteryLow):
			continue
		case errors.As(err, new(unfitError)):
			return d.fail(ctx, err)
		case errors.As(err, new(lockedError)):
			d.rest(runnerapi.Locked, err.Error())
			return d.await(ctx)
		case err != nil: // nothing ran, for a temporary reason such as a full disk
			exit, ready = crosvm.Exit{Kind: crosvm.Failed, Code: -1}, 0
		}
		reason := exit.String() + d.earlyWords()
		if err != nil {
			reason = err.Error()
		}
		if err := d.follow(ctx, d.policy.after(exit, ready), reason); err != nil {
			return err
		}
	}
}

// An unfitError says that the installed version cannot be started, and that a retry does not help.
type unfitError struct{ error }

func (e unfitError) Unwrap() error { return e.error }

// follow acts on the verdict about an ended run, and returns when the machine must be started
// again.
func (d *Daemon) follow(ctx context.Context, v verdict, reason string) error {
	failures := d.policy.failures
	d.state.change(func(s *runnerapi.State) { s.Failures = failures })
	switch v {
	case restartNow:
		d.log(reason + ": starting it again")
		return nil
	case stayOff:
		d.rest(runnerapi.Off, reason+" and stays off until it is started again")
	case giveUp:
		d.rest(runnerapi.Failed, reason)
	case crashLoop:
		d.rest(runnerapi.CrashLoop, fmt.Sprintf("%d failures in a row, the last: %s. It is left alone until it is started again", failures, reason))
	case restartLater:
		pause := d.policy.pause()
		d.state.change(func(s *runnerapi.State) { s.NextStart = time.Now().Add(pause).UTC() })
		d.rest(runnerapi.Backoff, reason)
		waiting, cancel := context.WithTimeout(ctx, pause)
		defer cancel()
		if err := d.await(waiting); errors.Is(err, errAgain) || ctx.Err() != nil {
			return err
		}
		return nil
	}
	return d.await(ctx)
}

// errRenewed says that a machine was shut down because its TAP interface was re-created.
var errRenewed = errors.New("the TAP interface was re-created")

// live runs the machine once, from the network setup to crosvm's end, and returns how it ended and
// how long the guest was ready. When ctx ends or the TAP interface is re-created, it shuts the
// machine down cleanly.
func (d *Daemon) live(ctx context.Context) (exit crosvm.Exit, ready time.Duration, err error) {
	select {
	case <-d.Again: // a restart was requested during the start
	default:
	}
	failures := d.policy.failures
	d.state.change(func(s *runnerapi.State) {
		s.Phase, s.Reason, s.Crosvm, s.StartedAt, s.ReadyAt, s.NextStart, s.Warnings = runnerapi.Starting, "", 0, time.Time{}, time.Time{}, time.Time{}, nil
		s.Failures = failures
	})
	slot, err := d.tryCurrent()
	if err != nil {
		return exit, 0, unfitError{err}
	}
	a, err := loadSlot(d.Root, d.settings, d.vm, slot)
	if err == nil {
		err = a.check(ctx)
	}
	if err != nil {
		return exit, 0, unfitError{versionError{err}}
	}
	if a.spec.Network.AddressUnset { // versions may also be installed by a module
		if err := address.Claim(d.vm, a.spec.Network); err != nil {
			return exit, 0, err
		}
		address.Apply(d.vm, &a.spec.Network)
	}
	if err := recordRouting(d.vm, a.spec.Network); err != nil {
		d.log("keep the way of routing: " + err.Error())
	}
	d.settings.apply(a.spec)
	secrets, err := d.secretsOf(a.spec)
	if err != nil {
		return exit, 0, err
	}
	d.stayAwake(a.spec.Awake)
	network := a.network(d.Root, d.settings, d.log)
	decision, report, err := d.host.Decide(ctx, network)
	if err != nil {
		return exit, 0, err
	}
	if network.Routing != decision.Routing {
		d.log(fmt.Sprintf("network: routing %s: %s", decision.Routing, decision.Reason))
	}
	network.Routing, d.routing = decision.Routing, decision
	d.noteNetwork(a, report, nil)
	program, err := crosvm.Find(ctx, d.settings.Crosvm)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, crosvm.ErrLacks) {
		return exit, 0, unfitError{err}
	}
	if err != nil { // a busy phone may time out
		return exit, 0, err
	}
	names := hosts(d.Root, d.settings, a.spec, func(string) {}) // errors about peers are reported above
	machine, config, token, err := prepare(ctx, d.vm, a, secrets, names, &d.configPlace, d.log)
	if err != nil {
		return exit, 0, err
	}
	defer func() {
		if fault := config.forget(); fault != nil {
			d.log(fault.Error())
		}
	}()
	hypervisor, err := crosvm.FindHypervisor()
	if err != nil {
		d.log(err.Error()) // crosvm may find another one; otherwise it reports the error
	}
	machine.Options = a.spec.Options.On(hypervisor)
	if err := errors.Join(d.trial.Begin(), d.openConsoles()); err != nil {
		return exit, 0, errors.Join(err, removeRunFiles(d.vm))
	}
	began := d.mark()
	r, err := start(program, machine, d.confinement.user(d.Name), a, config, token, d.Output)
	if errors.Is(err, crosvm.ErrConfine) {
		d.confinement.refused = err.Error()
		d.log(err.Error() + ": it runs as root")
		r, err = start(program, machine, nil, a, config, token, d.Output)
	}
	if errors.Is(err, crosvm.ErrLacks) {
		err = unfitError{err}
	}
	if err != nil {
		return exit, 0, errors.Join(err, removeRunFiles(d.vm))
	}
	user := d.confinement.user(d.Name)
	d.protect(r.process.PID())
	d.starts++
	d.state.change(func(s *runnerapi.State) {
		s.Phase, s.Crosvm, s.StartedAt, s.Restarts = runnerapi.Booting, r.process.PID(), time.Now().UTC(), d.starts-1
		s.UID, s.AsRoot, s.InFile = 0, d.confinement.refused, d.configPlace.refused
		if user != nil {
			s.UID = user.ID
		}
	})
	near := &neighbourhood{daemon: d, artifact: a, vm: network, guest: r.guest, said: map[string]bool{}, known: names}
	exit, ready, answered, err := d.attend(ctx, r, a, near)
	exit = d.explain(exit, began)
	if !answered && ctx.Err() == nil && !d.configPlace.learn(exit, crosvm.DiskPath(configIndex(a.spec))) {
		d.confinement.learn(exit)
	}
	d.state.change(func(s *runnerapi.State) {
		s.Crosvm = 0
		s.LastExit = &runnerapi.Exit{Kind: string(exit.Kind), Code: exit.Code, Signal: int(exit.Signal), Text: exit.String(), At: time.Now().UTC()}
	})
	return exit, ready, errors.Join(err, d.damageAfter(ctx, a, exit), removeRunFiles(d.vm))
}

// damageAfter checks for damaged files after an end that they may have caused: a kernel panics at
// the first block of its root file system that does not match the root hash. It does not trust the
// guest's own report: an attacker in the guest could make the phone roll back to an older version.
func (d *Daemon) damageAfter(ctx context.Context, a *artifact, exit crosvm.Exit) error {
	if exit.Kind != crosvm.Panic && exit.Kind != crosvm.Crash {
		return nil
	}
	err := a.compare(ctx, a.files.Files...)
	if err != nil && !errors.As(err, new(damageError)) {
		d.log(err.Error())
		return nil
	}
	return err
}

// attend monitors a running machine: its network, its guest, its logs, and its end.
func (d *Daemon) attend(ctx context.Context, r *run, a *artifact, near *neighbourhood) (exit crosvm.Exit, ready time.Duration, answered bool, err error) {
	select {
	case <-d.renewed: // while the previous run was active
	default:
	}
	attending, cancel := context.WithCancel(ctx)
	watch := newGuestWatch(d, r, a, near)
	done := make(chan struct{}, 5)
	for _, look := range []func(context.Context){
		watch.run,
		func(ctx context.Context) { d.followNetwork(ctx, a, near) },
		func(ctx context.Context) { serveTime(ctx, a.spec, d.log) },
		d.watchSpace,
		func(ctx context.Context) { rotateLogs(ctx, d.log, d.vm.Console(), d.vm.Early(), d.vm.Log()) },
	} {
		go func() { look(attending); done <- struct{}{} }()
	}
	defer func() {
		cancel()
		for range cap(done) {
			<-done
		}
	}()
	select {
	case <-r.process.Done():
	case <-ctx.Done():
		err = ctx.Err()
	case err = <-d.hopeless(attending, watch, a):
	case <-d.watchBattery(attending):
		d.log(batteryLow(android.Power("/sys"), d.settings.batteryStop()))
		err = errBatteryLow
	case <-d.renewed:
		err = errRenewed
		r.cutOff = true
	}
	if hasEnded(r.process.Done()) || r.cutOff && ended(ctx, r) { // crosvm has ended, so the interface lost its carrier
		return watch.end(r.process.Wait()), watch.readyFor(), watch.answered.Load(), nil
	}
	d.state.change(func(s *runnerapi.State) { s.Phase, s.Reason = runnerapi.Stopping, "" })
	cancel() // stop polling the guest
	how, failure := shutDown(context.WithoutCancel(ctx), r, d.settings.shutdownTimeout(), d.log)
	if failure != nil {
		return crosvm.Exit{Kind: crosvm.Failed, Code: -1}, 0, true, errors.Join(err, failure)
	}
	d.log(how)
	return watch.end(r.process.Wait()), watch.readyFor(), true, err
}

// noteNetwork records the result of Up in the state.
func (d *Daemon) noteNetwork(a *artifact, report network.Report, fault error) {
	for _, change := range report.Changed {
		d.log("network: " + change)
	}
	n := a.spec.Network
	d.state.change(func(s *runnerapi.State) {
		s.Slot, s.Version = a.slot, a.version
		s.Network = runnerapi.Network{TAP: n.TAP, Host: n.Host, Guest: n.Guest, Routing: string(d.routing.Routing), Reason: d.routing.Reason,
			Warnings: report.Warnings, Endpoint: endpoint(a.spec), Database: databaseOf(a.spec), Published: a.spec.Ports}
		if report.Uplink.Interface != "" {
			s.Network.Uplink = report.Uplink.String()
		}
		if fault != nil {
			s.Network.Fault = fault.Error()
		}
	})
}

// followNetwork maintains the network while the machine runs.
func (d *Daemon) followNetwork(ctx context.Context, a *artifact, near *neighbourhood) {
	opened := false // crosvm had the interface open; if it does not any more, the interface was replaced
	d.host.Follow(ctx, near.now, func(report network.Report, err error) {
		d.noteNetwork(a, report, err)
		if err == nil && opened && !report.Carrier {
			select {
			case d.renewed <- struct{}{}:
			default:
			}
		}
		opened = opened || report.Carrier
	})
}
