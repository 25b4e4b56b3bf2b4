//go:build linux

package guest

import (
	"context"
	"encoding/json"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/network"
)

const (
	maxBody        = 4096 // bytes of a request other than a restore
	maxHeader      = 8192 // bytes
	maxConnections = 32   // at once; a service that leaks some must not exhaust PID 1's descriptors
)

// serve answers on address until the guest shuts down.
func (m *machine) serve(address netip.AddrPort) error {
	l, err := net.Listen("tcp", address.String())
	if err != nil {
		return err
	}
	m.door = newDoorkeeper(m.config.Token, time.Now, func(refused int) {
		m.console.Log(journal.Warn, journal.InitName, "the endpoint was asked without its token", "requests", refused)
	})
	server := &http.Server{
		Handler:           m.door.authorize(m.routes()),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(m.console.Warnings(), "", 0),
	}
	m.mu.Lock()
	m.endpoint = server
	m.mu.Unlock()
	m.spawn("endpoint", func() { server.Serve(&limitedListener{Listener: l, slots: make(chan struct{}, maxConnections)}) })
	m.console.Log(journal.Info, journal.InitName, "endpoint listens", "address", address)
	return nil
}

func (m *machine) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+guestapi.PathStatus, func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, m.status(r.Context()))
	})
	mux.HandleFunc("GET "+guestapi.PathLogs, m.serveLogs)
	mux.HandleFunc("GET "+guestapi.PathMetrics, m.serveMetrics)
	mux.HandleFunc("POST "+guestapi.PathClock, func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		clock := m.clock
		m.mu.Unlock()
		if clock == nil {
			http.Error(w, "the clock is not kept yet", http.StatusServiceUnavailable)
			return
		}
		writeJSON(w, http.StatusOK, clock.Look(r.Context()))
	})
	mux.HandleFunc("POST "+guestapi.PathShutdown, func(w http.ResponseWriter, _ *http.Request) {
		m.request("endpoint")
		writeJSON(w, http.StatusAccepted, struct{}{})
	})
	mux.HandleFunc("GET "+guestapi.PathBackup, m.serveBackup)
	mux.HandleFunc("POST "+guestapi.PathRestore, m.serveRestore)
	return mux
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(v) // an error is the client's going away
}

// status gathers what the endpoint tells.
func (m *machine) status(ctx context.Context) guestapi.Status {
	services, ready := m.supervisor.Status()
	slices.SortFunc(services, func(a, b guestapi.Service) int { return strings.Compare(a.Name, b.Name) })
	hostname, _ := os.Hostname()
	s := guestapi.Status{
		Image:    m.spec.Image.Name,
		Version:  m.spec.Image.Version,
		Hostname: hostname,
		BootID:   bootID(),
		Kernel:   kernelRelease(),
		Time:     time.Now().UTC(),
		Uptime:   uptime().Seconds(),
		Data:     m.data.Status(),
		Services: services,
		Memory:   memory(),
		Orphans:  m.reaper.Orphans(),
		Network:  network.Status(m.link),
	}
	asking, cancel := context.WithTimeout(ctx, guestapi.StatusTime)
	defer cancel()
	var asked sync.WaitGroup
	asked.Go(func() { s.Tailnet = m.tailnetStatus(asking, services) })
	asked.Go(func() { s.Postgres = m.databaseStatus(asking, services) })
	asked.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.clock != nil {
		clock := m.clock.Status()
		s.Clock = &clock
	}
	s.Problems = slices.Clone(m.problems)
	s.Stopping = m.stopping
	s.Ready = ready && !m.stopping
	return s
}

// bootID is the kernel's random name for this boot.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// memory reads what /proc/meminfo says; its figures are KiB.
func memory() guestapi.Memory {
	b, _ := os.ReadFile("/proc/meminfo")
	var mem guestapi.Memory
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "MemTotal:":
			mem.Total = n << 10
		case "MemAvailable:":
			mem.Available = n << 10
		}
	}
	return mem
}

// A limitedListener has a bounded number of connections open at once; further ones wait in the
// kernel.
type limitedListener struct {
	net.Listener
	slots chan struct{}
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

type limitedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
