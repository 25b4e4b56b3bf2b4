//go:build linux

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/disk"
	"github.com/sovereign-sql/sov/internal/guest/filesystem"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/network"
	"github.com/sovereign-sql/sov/internal/guest/process"
	"github.com/sovereign-sql/sov/internal/guest/supervision"
	"github.com/sovereign-sql/sov/internal/guest/timekeeper"
)

// A machine is the guest as PID 1 sees it.
type machine struct {
	console *journal.Console
	journal *journal.Journal
	door    *doorkeeper // nil until the endpoint answers
	reaper  *process.Reaper
	spec    guestspec.Config
	config  configdisk.Config
	link    string // the interface to the host; set before the endpoint answers

	requests chan string // reasons to shut down; the first counts

	saving sync.Mutex // held by the backup or restore that is under way

	mu         sync.Mutex
	supervisor *supervision.Supervisor // nil until the specification is read
	data       *disk.Data              // nil until the specification is read
	clock      *timekeeper.Keeper      // nil until it is kept
	endpoint   *http.Server
	problems   []string
	stopping   bool
	fatal      error // why the guest cannot go on
}

// errShutdown is why work under way is cancelled.
var errShutdown = errors.New("the guest shuts down")

// A spawn runs fn beside its caller. A panic of fn ends the guest in order instead of at once.
type spawn func(name string, fn func())

// Run is PID 1's whole life. It does not return.
func Run() {
	unix.Umask(0o022)
	os.Setenv("PATH", guestspec.DefaultPath) // for what is looked up before the specification is read
	problems, err := filesystem.MountKernel()
	m := &machine{console: journal.NewConsole(openConsole(), time.Now), requests: make(chan string, 1)}
	m.journal = journal.New(m.spawn)
	m.console.Tee(m.journal.Keep)
	m.reaper = process.NewReaper(m.spawn)
	// The kernel spares a PID 1 anyway, as long as there is another; one that is not allowed to ask for it lives with that.
	_ = m.reaper.Protect()
	watchSignals(m.spawn, m.request)
	for _, p := range problems {
		m.problem("", p)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	booted := make(chan struct{})
	m.spawn("boot", func() {
		defer close(booted)
		if err == nil {
			err = m.boot(ctx)
		}
		if err != nil {
			m.die(err)
		}
	})
	reason := <-m.requests
	cancel(errShutdown)
	select {
	case <-booted:
	case <-time.After(process.KillLimit): // e2fsck on a disk that does not answer
	}
	m.shutDown(reason)
}

// openConsole opens the kernel's console: what PID 1 got as its standard output, unless the
// device node was not there yet.
func openConsole() io.Writer {
	if f, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0); err == nil {
		return f
	}
	return os.Stdout
}

// boot brings the machine up. It returns an error only if there is no use in going on; what else
// goes wrong is a problem for the status to tell.
func (m *machine) boot(ctx context.Context) error {
	spec, err := guestspec.Load(os.DirFS("/"))
	if err != nil {
		return err
	}
	m.spec = spec
	config, configErr := disk.ReadConfig(spec.ConfigDisk)
	m.config = config
	// Nothing that looks at the clock comes before this.
	setBy, clockErr := setClock(config.Time)
	m.console.Log(journal.Info, journal.InitName, "starting", "image", spec.Image.Name, "version", spec.Image.Version,
		"kernel", kernelRelease(), "clock_set_by", setBy.Round(time.Millisecond))
	m.problem("", configErr)
	m.problem("", clockErr)
	m.mu.Lock()
	m.data = &disk.Data{Spec: spec.Data, Path: spec.Path, Reaper: m.reaper, Console: m.console, Problem: m.problem}
	m.supervisor = supervision.New(supervision.Config{
		Reaper: m.reaper, Console: m.console, Path: spec.Path, Secrets: config.Secrets,
		Now: time.Now, Uptime: uptime, Spawn: m.spawn, OnReady: m.reportReady,
	}, spec.Services)
	m.mu.Unlock()
	watchPowerButton(m.spawn, m.request)
	m.problem("", m.setHostname())
	for _, t := range spec.Tmpfs {
		m.problem("", filesystem.MountTmpfs(t))
	}
	m.problem("", network.UpLoopback())
	if configErr == nil {
		m.goOnline()
	}
	m.keepClock(ctx)
	if err := m.data.Mount(ctx); err != nil {
		m.supervisor.Block("the data disk is not mounted: " + err.Error())
		m.problem("data disk", err)
		return nil
	}
	if err := m.keepLogs(); err != nil {
		m.problem("logs are not kept", err)
	}
	m.spawn("data disk's space", func() { m.data.Watch(ctx) })
	m.supervisor.Start()
	return nil
}

// keepLogs has the log kept on the data disk from here on.
func (m *machine) keepLogs() error {
	dir := filepath.Join(m.spec.Data.Path, "log")
	if err := filesystem.MakeDirectory(guestspec.Directory{Path: dir, Mode: "0700", User: "root"}); err != nil {
		return err
	}
	m.journal.Attach(dir)
	return nil
}

func (m *machine) setHostname() error {
	name := m.spec.Hostname
	if m.config.Hostname != "" {
		name = m.config.Hostname
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set host name %s: %w", name, err)
	}
	return nil
}

// goOnline configures the network and answers on it.
func (m *machine) goOnline() {
	name, err := network.Configure(m.spec.Network, m.config.Network)
	if err != nil {
		m.problem("network", err)
		return
	}
	m.link = name
	// Before anything listens. Without the kernel's help the guest works all the same: everything
	// that it runs asks who comes.
	m.problem("firewall", network.Firewall{
		Link: name, Subnet: m.config.Network.Address, Gateway: m.config.Network.Gateway,
		Endpoint: m.spec.Endpoint.Port, Open: m.spec.Firewall.Open,
	}.Apply())
	address := m.config.Network.Address.Addr()
	m.console.Log(journal.Info, journal.InitName, "network configured", "interface", name, "address", m.config.Network.Address)
	if m.config.Token == "" || !address.IsValid() {
		m.problem("endpoint", errors.New("the config disk gives no token or no address, so there is none"))
		return
	}
	m.problem("endpoint", m.serve(netip.AddrPortFrom(address, m.spec.Endpoint.Port)))
}

// problem notes err, if there is one, for the log and the status; about may be empty.
func (m *machine) problem(about string, err error) {
	if err == nil {
		return
	}
	text := err.Error()
	if about != "" {
		text = about + ": " + text
	}
	m.console.Log(journal.Error, journal.InitName, text)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.problems = append(m.problems, text)
}

// reportReady is called when all services are ready for the first time.
func (m *machine) reportReady() {
	m.console.Log(journal.Info, journal.InitName, "ready", "services", len(m.spec.Services), "uptime", fmt.Sprintf("%.3f", uptime().Seconds()))
}

// request asks for a shutdown; all requests but the first change nothing.
func (m *machine) request(reason string) {
	select {
	case m.requests <- reason:
	default:
	}
}

// die asks for the end that the specification wants after a fatal error.
func (m *machine) die(err error) {
	m.console.Log(journal.Error, journal.InitName, "cannot go on", "error", err)
	m.mu.Lock()
	if m.fatal == nil {
		m.fatal = err
	}
	m.mu.Unlock()
	m.request("fatal error")
}

// spawn implements the type of the same name.
func (m *machine) spawn(name string, fn func()) {
	go func() {
		defer func() {
			if p := recover(); p != nil {
				for line := range strings.Lines(string(debug.Stack())) {
					m.console.Output(journal.InitName, strings.TrimSuffix(line, "\n"))
				}
				m.die(fmt.Errorf("panic in %s: %v", name, p))
			}
		}()
		fn()
	}()
}

// kernelRelease is what uname -r prints.
func kernelRelease() string {
	var u unix.Utsname
	unix.Uname(&u) // cannot fail with a valid pointer
	return unix.ByteSliceToString(u.Release[:])
}
