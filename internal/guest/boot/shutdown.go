//go:build linux

package boot

import (
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/network"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// shutDown stops the services, unmounts the disks and powers the machine off. It does not return.
func (m *machine) shutDown(reason string) {
	m.mu.Lock()
	m.stopping = true
	supervisor, data, volumes, endpoint := m.supervisor, m.data, m.volumes, m.endpoint
	m.mu.Unlock()
	m.console.Log(journal.Info, journal.InitName, "shutting down", "reason", reason)
	if endpoint != nil {
		endpoint.EndSessions()
	}
	limit := time.Minute
	if supervisor != nil {
		limit += supervisor.StopLimit()
	}
	// The machine must power off even if a lock or a disk blocks.
	watchdog := time.AfterFunc(limit, func() {
		m.console.Log(journal.Error, journal.InitName, "the shutdown takes too long and is cut short", "limit", limit)
		m.end()
	})
	if supervisor != nil {
		supervisor.Stop(errShutdown)
	}
	if endpoint != nil { // closed late, so that the shutdown can be observed
		endpoint.Close()
	}
	killAll()
	within(process.KillLimit, m.journal.Detach) // a disk that does not answer must not block it
	for _, v := range volumes {
		v.Release()
	}
	if data != nil {
		data.Release()
	}
	watchdog.Stop()
	m.end()
}

// killAll ends all other processes, such as daemonized children of services.
func killAll() {
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if !othersLive() {
				return
			}
			unix.Kill(-1, s) // kernel threads ignore it
		}
	}
}

// othersLive reports whether another process is running. Kernel threads and zombies do not count:
// they have no program.
func othersLive() bool {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err != nil || pid == os.Getpid() {
			continue
		}
		if _, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe")); err == nil {
			return true
		}
	}
	return false
}

// end powers the machine off. It does not return.
func (m *machine) end() {
	m.mu.Lock()
	fatal := m.fatal
	m.mu.Unlock()
	command, text := unix.LINUX_REBOOT_CMD_POWER_OFF, "power off"
	if fatal != nil {
		switch m.spec.OnFatal {
		case guestspec.Wait:
			m.console.Log(journal.Error, journal.InitName, "waiting for a person", "error", fatal)
			select {}
		case guestspec.Reboot:
			command, text = unix.LINUX_REBOOT_CMD_RESTART, "restart"
		}
	}
	m.console.Log(journal.Info, journal.InitName, text, "uptime", uptime().Round(time.Millisecond))
	m.console.Flush(2 * time.Second)
	within(process.KillLimit, unix.Sync) // it may never return if a disk does not answer
	if m.link != "" {
		within(process.KillLimit, func() {
			if err := network.Down(m.link); err != nil {
				m.console.Log(journal.Error, journal.InitName, "the network stays up", "error", err)
			}
		})
	}
	err := unix.Reboot(command)
	m.console.Log(journal.Error, journal.InitName, "the machine cannot be switched off", "error", err)
	select {}
}

// within runs fn and waits for it for at most limit. It reports whether fn has returned.
func within(limit time.Duration, fn func()) bool {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		fn()
	}()
	select {
	case <-ended:
		return true
	case <-time.After(limit):
		return false
	}
}
