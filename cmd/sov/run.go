package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/egress"
	"github.com/sovereign-sql/sov/internal/host/folders"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/host/secrets"
	"github.com/sovereign-sql/sov/internal/host/systemd"
	"github.com/sovereign-sql/sov/stages/disk"
)

// stopBound is the timeout of a clean shutdown. PostgreSQL writes a checkpoint, which takes seconds
// with an emulated processor and a slow disk.
const stopBound = 2 * time.Minute

// runFlags are the flags of `sov run`.
type runFlags struct {
	localvm.Options
	arch      string
	out       string
	ephemeral bool
	console   bool
	identity  string
	tailnet   bool
	egress    bool
	queries   []string
	asJSON    bool
	inBack    bool
	format    string
	unit      bool
}

func newRun() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run NAME|RECIPE|DIR",
		Short: "Boot a built machine on this computer, in QEMU",
		Long: `Boot a built machine on this computer, in QEMU. It uses the same kernel and root file system as on a
phone. The data disk is created on the first run and kept; the config disk is rewritten on each run.
sov prints a URL at 127.0.0.1 for PostgreSQL clients. The first Ctrl-C shuts the machine down
cleanly, the second one stops it at once.

With --query, sov boots the machine, runs the SQL, prints the rows as tab-separated text and shuts
the machine down.

The machine gets its secrets from 'sov secrets'. Passwords of the superuser and of the recipe's
roles are generated if they are not set, and stored with the data disk. The auth key of a tailnet is
used only with --tailnet. The machine then joins as a separate node, not as the phone's, and keeps
this node as long as its data disk exists.

The guest gets the time from this computer and cannot connect to anything else. With --egress it can
reach the internet and the networks of network.egress in the recipe. sov uses passt for this and
blocks the guest from the services of this computer. Without passt, and on macOS, it uses QEMU's
network; the guest can then reach services on this computer's loopback address, and sov warns.

With --detach, sov returns when the machine is ready, and 'sov stop NAME --local' shuts it down. Its
messages are in run.log in the state folder. With --systemd, sov only prints a systemd unit that
runs the machine.

With --format disk, sov boots the disk image of 'sov build --format disk' with UEFI. It uses a copy
in --state, which keeps its data, and also attaches a config disk.

If this computer's disk is full, the machine pauses until there is space. The data disk, its
password file and the console log are in --state, by default a folder for each recipe and
architecture in the user's state folder.`,
		Example: `  sov run sql
  sov run sql --query 'select version()'
  sov run sql --arch amd64 --kvm --port 5432
  sov run sql --detach
  sov run sql --egress
  sov run sql --systemd
  sov run sql --arch amd64 --format disk
  sov run out/sql/arm64 --ephemeral --console`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: recipes,
		RunE:              func(c *cobra.Command, args []string) error { return run(c, args[0], f) },
	}
	flags := c.Flags()
	archFlag(c, &f.arch)
	flags.StringVarP(&f.out, "out", "o", "out", "folder that 'sov build' wrote to")
	flags.StringVar(&f.State, "state", "", "folder for the data disk, password file and console log")
	flags.BoolVar(&f.ephemeral, "ephemeral", false, "use a temporary data disk")
	flags.Uint16Var(&f.Port, "port", 0, "port of 127.0.0.1 for PostgreSQL; 0: a free port")
	flags.IntVar(&f.MemoryMiB, "memory", 0, "memory in MiB; 0: as in the recipe")
	flags.IntVar(&f.CPUs, "cpus", 0, "number of processors; 0: as in the recipe")
	flags.BoolVar(&f.KVM, "kvm", false, "use this computer's processor instead of emulating one; it must have the guest's architecture")
	flags.StringVar(&f.format, "format", "", "disk: boot the image of 'sov build --format disk' with UEFI (OVMF, AAVMF)")
	complete(c, "format", disk.Name)
	flags.BoolVar(&f.console, "console", false, "show the guest's console")
	flags.BoolVar(&f.egress, "egress", false, "let the guest reach the internet and the networks of network.egress in the recipe")
	flags.BoolVar(&f.tailnet, "tailnet", false, "join the tailnet with the secret tailscale; implies --egress")
	identityFlag(c, &f.identity)
	flags.StringArrayVar(&f.queries, "query", nil, "run this SQL, print its rows, and shut down; may be repeated")
	flags.BoolVarP(&f.inBack, "detach", "d", false, "run in the background, and return when the machine is ready")
	flags.BoolVar(&f.unit, "systemd", false, "print a systemd unit that runs the machine, and start nothing")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON: with --query the rows, otherwise one object when the machine is ready")
	return c
}

// runReport is the output of `sov run --json` once the machine is ready.
type runReport struct {
	URL     string              `json:"url"` // empty if the machine publishes no database
	PID     int                 `json:"pid"` // QEMU's
	Console string              `json:"console"`
	Network localvm.NetworkMode `json:"network"`
	Status  *guestapi.Status    `json:"status"`
	// Published are the guest's ports on this computer.
	Published []localvm.Published `json:"published"`
}

// addresses prints the database's URL and the other published ports.
func (r runReport) addresses(p *printer) {
	if r.URL != "" {
		p.printf("%s\n", r.URL)
	}
	for _, port := range r.Published {
		if !port.IsDatabase() {
			p.printf("%s\n", port)
		}
	}
}

// A runner runs a machine on this computer, and reports its progress on standard error.
type runner struct {
	runFlags
	command *cobra.Command
	vm      *localvm.VM
	console string // path of the console's log
	manager string // socket of the service manager that started this process; may be empty
}

func run(c *cobra.Command, recipe string, f runFlags) (err error) {
	err = excludeEachOther(c, [2]string{"detach", "systemd"}, [2]string{"detach", "ephemeral"}, [2]string{"detach", "console"}, [2]string{"detach", "query"},
		[2]string{"systemd", "ephemeral"}, [2]string{"systemd", "console"}, [2]string{"systemd", "query"})
	if err != nil {
		return err
	}
	if err := checkArch(f.arch); err != nil {
		return err
	}
	if f.format != "" && f.format != disk.Name {
		return usagef("--format %q: must be %s", f.format, disk.Name)
	}
	f.Disk = f.format == disk.Name
	if f.Artifact, err = built.Dir(recipe, f.out, f.arch); err != nil {
		return err
	}
	spec, err := localvm.ReadSpec(f.Artifact)
	if errors.Is(err, fs.ErrNotExist) {
		return notBuilt(f.Artifact, recipe, f.arch)
	}
	if err != nil {
		return err
	}
	if _, ok := spec.Port(guestspec.ServicePostgres); !ok && len(f.queries) > 0 {
		return fmt.Errorf("%s offers no PostgreSQL: list its port under network.publish in the recipe, and build it again", f.Artifact)
	}
	remove, err := f.stateFolder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	switch {
	case f.unit:
		return f.printUnit(c, spec)
	case f.inBack:
		return f.detach(c, spec)
	}
	if f.Secrets, err = f.secrets(c, spec); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(f.State, localvm.ConsoleName), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	r := &runner{runFlags: f, command: c, console: log.Name(), manager: os.Getenv(systemd.SocketVariable)}
	f.openNetwork(r.say)
	f.Notice = func(text string) { r.say("run: %s", text) }
	for _, weak := range secrets.Weak(spec.Name, spec.Logins(), func(name string) (string, bool) { v, ok := f.Secrets[name]; return v, ok }) {
		r.say("run: warning: %s", weak)
	}
	f.Now, f.Runtime, f.Console = time.Now, os.Getenv("XDG_RUNTIME_DIR"), log
	if f.console {
		f.Console = io.MultiWriter(log, c.ErrOrStderr())
	}

	// The machine must keep running after the first Ctrl-C until its clean shutdown is complete.
	power, cut := context.WithCancel(context.WithoutCancel(c.Context()))
	defer cut()
	started := time.Now()
	vm, err := localvm.Start(power, f.Options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vm.Close()) }()
	r.vm = vm
	return r.run(started)
}

func (r *runner) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	fmt.Fprintln(r.command.ErrOrStderr(), line)
	_ = systemd.Notify(r.manager, systemd.Status(line)) // the service manager may have ended
}

// run waits until the machine is ready, and then does what the flags request.
func (r *runner) run(started time.Time) error {
	c := r.command
	r.say("run: started, console in %s", r.console)
	if r.vm.Network() == localvm.Restricted && len(r.queries) == 0 {
		r.say("run: no network beyond this computer: --egress")
	}
	status, err := r.awaitReady(c.Context())
	if err != nil {
		return r.notReady(err)
	}
	r.say("run: ready in %.1f s", time.Since(started).Seconds())
	if len(r.queries) > 0 {
		return errors.Join(r.ask(), r.stop())
	}
	report := runReport{URL: r.vm.URL(), PID: r.vm.PID(), Console: r.console, Network: r.vm.Network(), Status: status, Published: r.vm.Published()}
	err = printResult(c.OutOrStdout(), r.asJSON, report, func(p *printer) {
		report.addresses(p)
		if report.URL != "" {
			password := "" // requested by psql if no file with the password can be named in the URL
			if !r.vm.HasPasswordFile() {
				password = "; the password is the secret postgres: it holds a line break, which no password file can"
			}
			r.say("run: psql takes this URL, in quotes%s", password)
		}
	})
	if err != nil {
		return errors.Join(err, r.stop())
	}
	if err := systemd.Notify(r.manager, systemd.Ready); err != nil {
		return errors.Join(err, r.stop())
	}
	if r.manager == "" {
		r.say("run: Ctrl-C shuts it down")
	}
	select {
	case <-c.Context().Done():
		return r.stop()
	case <-r.vm.Done():
		return r.vm.Wait()
	}
}

// notReady shuts down a machine that did not become ready. It prints the console's last lines
// unless the user interrupted it.
func (r *runner) notReady(err error) error {
	if r.command.Context().Err() == nil {
		lines, readErr := localvm.LastLines(r.console)
		if readErr == nil {
			r.say("--- the console's last lines\n%s\n---", lines)
		}
		err = errors.Join(err, readErr)
	}
	select {
	case <-r.vm.Done():
		return err // reports how the machine ended
	default:
		return errors.Join(err, r.stop())
	}
}

// openNetwork selects the network mode for the flags.
func (f *runFlags) openNetwork(say func(format string, args ...any)) {
	f.Egress = f.egress || f.tailnet
	if !f.Egress {
		return
	}
	var err error
	if f.Passt, err = egress.Find(); err != nil {
		say("run: --egress: %v: QEMU is the guest's network, by which it reaches the services on this computer's loopback address, too", err)
	}
}

// stateFolder creates the folder for persistent data and returns a function that removes it if the
// run is ephemeral.
func (f *runFlags) stateFolder() (remove func() error, err error) {
	if f.ephemeral {
		f.State, err = os.MkdirTemp("", "sov-run-")
		return func() error { return os.RemoveAll(f.State) }, err
	}
	if f.State == "" {
		base, err := folders.State(os.Getenv)
		if err != nil {
			return nil, err
		}
		if f.State, err = localvm.StateFolder(base, f.Artifact); err != nil {
			return nil, err
		}
	}
	return func() error { return nil }, os.MkdirAll(f.State, 0o700)
}

// awaitReady waits until the guest is ready and reports changes of its state.
func (r *runner) awaitReady(ctx context.Context) (*guestapi.Status, error) {
	var last *guestapi.Status
	var shownState string
	err := r.vm.Ready(ctx, func(s *guestapi.Status) {
		last = s
		if now := localvm.Unready(s); now != shownState && now != "" {
			shownState = now
			r.say("run: up for %.1f s, %s", s.Uptime, now)
		}
	})
	return last, err
}

// stop shuts the machine down cleanly. It does not use the command's context, which may be
// cancelled already.
func (r *runner) stop() error {
	start := time.Now()
	if err := r.vm.Shutdown(context.Background(), stopBound); err != nil {
		return err
	}
	r.say("run: shut down in %.1f s", time.Since(start).Seconds())
	return nil
}

// secrets returns the stored secrets that the machine uses.
func (f runFlags) secrets(c *cobra.Command, spec *vmspec.Spec) (map[string]string, error) {
	store, err := openSecrets(f.identity)
	if err != nil {
		return nil, err
	}
	kept, err := store.All(c.Context(), spec.Name)
	if err != nil {
		return nil, err
	}
	if spec.DataKey() != "" && kept[guestspec.SecretDataKey] == nil && !localvm.HasEncrypted(f.State, spec) {
		key, path, err := store.MakeDataKey(spec.Name)
		if err != nil {
			return nil, err
		}
		kept[guestspec.SecretDataKey] = key
		sayDataKey(c.ErrOrStderr(), "run", spec.Name, path)
	}
	makeSecret := store.Generator(spec.Name, func(secret, path string) {
		fmt.Fprintf(c.ErrOrStderr(), "run: %s had no secret %s: it was generated and is kept in %s; `sov secrets show %[1]s %[2]s` prints it\n", spec.Name, secret, path)
	})
	kept, _, err = secrets.Places{
		Has: func(string) (bool, error) { return false, nil }, Other: store.Other(c.Context()), Make: makeSecret,
	}.Complete(spec.Name, spec.Secrets, kept)
	if err != nil {
		return nil, err
	}
	return localvm.SecretsToGive(spec, kept, f.tailnet)
}
