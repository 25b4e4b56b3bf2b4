//go:build linux

package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/certificate"
	"github.com/sovereign-sql/sov/internal/guest/cluster"
	"github.com/sovereign-sql/sov/internal/guest/disk"
	"github.com/sovereign-sql/sov/internal/guest/endpoint"
	"github.com/sovereign-sql/sov/internal/guest/filesystem"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/process"
	"github.com/sovereign-sql/sov/internal/guest/supervision"
	"github.com/sovereign-sql/sov/internal/guest/tailnet"
	"github.com/sovereign-sql/sov/internal/guest/timekeeper"
)

// A machine is the guest as PID 1 sees it.
type machine struct {
	console *journal.Console
	journal *journal.Journal
	reaper  *process.Reaper
	spec    guestspec.Config
	config  configdisk.Config
	link    string // the interface to the host; set before the endpoint answers
	twin    tailnet.Twin

	requests chan string // reasons to shut down; the first counts

	mu           sync.Mutex
	supervisor   *supervision.Supervisor // nil until the specification is read
	data         *disk.Data              // nil until the specification is read
	volumes      []*disk.Data            // in the specification's order
	clock        *timekeeper.Keeper      // nil until it is kept
	endpoint     *endpoint.Server        // nil until it answers
	certificates *certificate.Keeper     // nil if no service has a certificate
	kept         cluster.Kept            // PostgreSQL clusters from before upgrades
	onReady      func()                  // called by reportReady; may be nil
	peers, nodes []configdisk.Host       // names that the guest resolves: of the host's machines, of the tailnet
	problems     []string
	stopping     bool
	fatal        error // why the guest cannot continue
}

// errShutdown is the cause of contexts that a shutdown cancels.
var errShutdown = errors.New("the guest shuts down")

// A spawn runs fn in a goroutine. A panic of fn shuts the guest down cleanly instead of at once.
type spawn func(name string, fn func())

// Run is the main function of PID 1. It does not return.
func Run() {
	unix.Umask(0o022)
	if err := enterRoot(); err != nil {
		fmt.Fprintf(openConsole(), "sov-init: %v\n", err)
		os.Exit(1) // the kernel panics, and starts the machine again
	}
	// For programs that are looked up before the specification is read.
	os.Setenv("PATH", guestspec.DefaultPath)
	problems, err := filesystem.MountKernel()
	m := &machine{console: journal.NewConsole(openConsole(), time.Now), requests: make(chan string, 1)}
	m.journal = journal.New(m.spawn)
	m.console.Tee(func(service, line string) {
		m.journal.Keep(service, line)
		if service == guestspec.ServiceTailscale {
			m.twin.Output(line)
		}
	})
	m.reaper = process.NewReaper(m.spawn)
	// The OOM killer never chooses PID 1, so an error does not matter.
	_ = m.reaper.Protect()
	watchSignals(m.spawn, m.RequestShutdown)
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

// openConsole opens the kernel's console. It is PID 1's standard output, unless the device node did
// not exist yet.
func openConsole() io.Writer {
	if f, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0); err == nil {
		return f
	}
	return os.Stdout
}

// problem adds err, unless it is nil, to the log and the status; about may be empty.
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
	m.mu.Lock()
	more := m.onReady
	m.mu.Unlock()
	if more != nil {
		more()
	}
	m.console.Log(journal.Info, journal.InitName, "ready", "services", len(m.spec.Services), "uptime", fmt.Sprintf("%.3f", uptime().Seconds()))
}

// RequestShutdown implements endpoint.Machine. Only the first request has an effect.
func (m *machine) RequestShutdown(reason string) {
	select {
	case m.requests <- reason:
	default:
	}
}

// die shuts the machine down as the specification says for a fatal error.
func (m *machine) die(err error) {
	m.console.Log(journal.Error, journal.InitName, "cannot continue", "error", err)
	m.mu.Lock()
	if m.fatal == nil {
		m.fatal = err
	}
	m.mu.Unlock()
	m.RequestShutdown("fatal error")
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
