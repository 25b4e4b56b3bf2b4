//go:build linux

// Sov-simulator simulates a rooted Android phone on this computer. The phone is an adb device on
// which every command of sov works.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/host/phonereport"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
	"github.com/sovereign-sql/sov/internal/testkit/session"
)

func main() {
	androidtest.Play()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "sov-simulator:", err)
		os.Exit(1)
	}
}

const longHelp = `Simulate a rooted Android phone on this computer, as an adb device on which all verbs of sov work:
push, start, status, psql, backup, ... Machines run on it in QEMU, behind a replacement for
Android's crosvm; the arm64 processor is emulated, so they are slower than on a phone.

Shell, root manager, device nodes, crosvm's flags and the network rules are those of an Android
release, as in Android's sources. The phone's internet is one simulated server.

It runs as root, in separate namespaces: the computer's network, mounts and processes are not
changed. adb lists it like any phone: it is connected to the adb server of the user of sudo, and
disconnected at the end. Ctrl-C switches it off, as if its battery was removed, and removes
everything except the folder of --state.`

const examples = `  sudo sov-simulator
  sudo sov-simulator --state phone                          keep the phone's storage in the folder phone, for the next start
  sudo sov-simulator --release 13 --root kernelsu
  sudo sov-simulator --release 14Q3 --hypervisor gunyah --system lineageos
  sudo sov-simulator --report phone.txt                     a phone like the one of sov doctor --report phone.txt`

// defaultPort is outside the range where adb searches for emulators (5555 to 5585).
const defaultPort = 16555

// flags are the program's flags.
type flags struct {
	release, root, system, hypervisor string
	report, state                     string
	port                              int
	noConnect, json                   bool
}

func newCommand() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use:           "sov-simulator",
		Short:         "Simulate a rooted Android phone on this computer, for sov",
		Long:          longHelp,
		Example:       examples,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := f.options(c)
			if err != nil {
				return err
			}
			return f.simulate(c.Context(), o, c.OutOrStdout())
		},
	}
	set := c.Flags()
	set.StringVar(&f.release, "release", string(androidtest.DefaultRelease()), "release of Android: "+join(crosvmcli.Releases)+"; Q is a quarterly release")
	set.StringVar(&f.root, "root", string(androidtest.Magisk), "root manager: "+join(androidtest.Superusers)+";\naosp is the su of userdebug builds, shell is adb root, denied is Magisk whose user said no")
	set.StringVar(&f.system, "system", "aosp", "system: aosp, lineageos, calyxos")
	set.StringVar(&f.hypervisor, "hypervisor", "kvm", "hypervisor: kvm, gunyah, geniezone, none")
	set.StringVar(&f.report, "report", "", "simulate the phone of this file, which sov doctor --report has written")
	set.StringVar(&f.state, "state", "", "persistent folder for the phone's storage (default: a temporary folder)")
	set.IntVar(&f.port, "port", 0, fmt.Sprintf("port of the phone's adb daemon at 127.0.0.1 (default %d, or a free one if that is taken)", defaultPort))
	set.BoolVar(&f.noConnect, "no-connect", false, "do not run adb connect")
	set.BoolVar(&f.json, "json", false, "when the phone is ready, print one line of JSON instead of a description")
	c.MarkFlagsMutuallyExclusive("report", "release")
	c.MarkFlagsMutuallyExclusive("report", "root")
	c.MarkFlagsMutuallyExclusive("report", "hypervisor")
	return c
}

func join[S ~string](names []S) string {
	var out []string
	for _, name := range names {
		out = append(out, string(name))
	}
	return strings.Join(out, ", ")
}

// hypervisors maps the values of --hypervisor to hypervisors.
var hypervisors = map[string]androidtest.Hypervisor{"kvm": androidtest.KVM, "gunyah": androidtest.Gunyah, "geniezone": androidtest.GenieZone,
	"none": androidtest.NoHypervisor}

// options returns the phone's options for the flags.
func (f flags) options(c *cobra.Command) (o androidtest.Options, err error) {
	release, err := crosvmcli.ParseRelease(f.release)
	if err != nil {
		return o, err
	}
	superuser := androidtest.Superuser(f.root)
	if !slices.Contains(androidtest.Superusers, superuser) {
		return o, fmt.Errorf("root manager %q: must be one of %s", f.root, join(androidtest.Superusers))
	}
	hypervisor, known := hypervisors[f.hypervisor]
	if !known {
		return o, fmt.Errorf("hypervisor %q: must be kvm, gunyah, geniezone or none", f.hypervisor)
	}
	if o, err = androidtest.OptionsOf(release, hypervisor, f.system); err != nil {
		return o, err
	}
	o.Superuser = superuser
	if f.report != "" {
		text, err := os.ReadFile(f.report)
		if err != nil {
			return o, err
		}
		if o.Report, err = phonereport.Parse(string(text)); err != nil {
			return o, fmt.Errorf("%s: %w", f.report, err)
		}
	}
	if os.Getuid() != 0 {
		return o, fmt.Errorf("it needs root to create namespaces: sudo %s", strings.Join(os.Args, " "))
	}
	if missing := androidtest.Missing(); len(missing) > 0 {
		return o, fmt.Errorf("programs are missing: apt install %s", strings.Join(missing, " "))
	}
	o.Program, err = os.Executable()
	return o, err
}

// simulate runs the phone until ctx ends.
func (f flags) simulate(ctx context.Context, o androidtest.Options, out io.Writer) error {
	if f.state != "" {
		lock, data, err := openState(f.state)
		if err != nil {
			return err
		}
		defer lock.Release()
		o.Data = data
	}
	listen, err := f.listen()
	if err != nil {
		return err
	}
	defer listen.Close()
	ready := false
	err = session.Run(ctx, func(t session.T) {
		p := androidtest.New(t, o)
		if err := makeSettings(p.File(phonepath.Default.Settings())); err != nil {
			t.Fatal(err)
		}
		serial := p.ServeADB(androidtest.ADBOptions{Listen: listen}).Serial()
		client, others := findADB(), 0
		if !f.noConnect {
			// Runs after ctx has ended, so that adb forgets the phone.
			t.Cleanup(func() { client.run(context.WithoutCancel(ctx), "disconnect", serial) })
			var err error
			if others, err = client.connect(ctx, serial); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.tell(out, serial, others); err != nil {
			t.Fatal(err)
		}
		ready = true
		<-ctx.Done()
	})
	if !ready && ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return err
}

// openState locks the folder of a persistent phone and returns the path of its /data.
func openState(dir string) (*durable.Lock, string, error) {
	data, err := filepath.Abs(filepath.Join(dir, "data"))
	if err == nil {
		err = os.MkdirAll(data, 0o755)
	}
	if err != nil {
		return nil, "", err
	}
	lock, err := durable.TryLock(filepath.Join(dir, "lock"), durable.Exclusive, durable.LockOptions{})
	if errors.Is(err, durable.ErrBusy) {
		err = fmt.Errorf("%s: another sov-simulator runs this phone: use that one, or another folder", dir)
	}
	return lock, data, err
}

// listen opens the port of the phone's adb daemon.
func (f flags) listen() (net.Listener, error) {
	if f.port != 0 {
		return net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", f.port))
	}
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", defaultPort))
	if errors.Is(err, syscall.EADDRINUSE) {
		return net.Listen("tcp4", "127.0.0.1:0")
	}
	return l, err
}

// makeSettings writes settings with which the phone's sov-runner, a program for this computer's
// architecture, runs arm64 machines. Existing settings are kept.
func makeSettings(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	err := durable.WriteFile(path, []byte(`{"arch": "arm64"}`+"\n"), 0o644, durable.KeepExisting())
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// tell prints that the phone is ready and which commands come next. others is the number of other
// devices that adb lists.
func (f flags) tell(out io.Writer, serial string, others int) error {
	if f.json {
		return json.NewEncoder(out).Encode(map[string]string{"event": "ready", "serial": serial})
	}
	kept := "gone with it; --state DIR keeps it"
	if f.state != "" {
		kept = "kept in " + f.state
	}
	next, device := "", ""
	if f.noConnect {
		next = "  adb connect " + serial + "\n"
	}
	if f.noConnect || others > 0 {
		device = " --device " + serial
	}
	_, err := fmt.Fprintf(out, `The phone has started: %s.
Its storage is %s.
adb sees it as %s.

Next, in another terminal:
%s  sov up sql%s

Ctrl-C switches the phone off and removes it.
`, f.phone(), kept, serial, next, device)
	return err
}

// phone describes the phone that the flags select.
func (f flags) phone() string {
	if f.report != "" {
		return "like that of " + f.report
	}
	system := map[string]string{"aosp": "AOSP", "lineageos": "LineageOS", "calyxos": "CalyxOS"}[strings.ToLower(f.system)]
	return fmt.Sprintf("Android %s, %s, root by %s, hypervisor %s", strings.Replace(f.release, "Q", " QPR", 1), system, f.root, f.hypervisor)
}
