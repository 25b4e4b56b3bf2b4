//go:build linux

package endpoint

import (
	"context"
	"encoding/json"
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/machinebackup"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

const (
	maxBody        = 4096            // bytes of a request other than a restore
	maxHeader      = 8192            // bytes
	maxConnections = 32              // authenticated ones at once; a client that leaks connections must not exhaust PID 1's descriptors
	headerTimeout  = 5 * time.Second // for a request's header
	maxUnproven    = 16              // unauthenticated ones at once from privileged ports, and as many from others
)

// A Machine is the guest that an endpoint reports on and controls.
type Machine interface {
	Status(context.Context) guestapi.Status
	// ReadClock reads the time sources and returns the resulting status. It returns false while the
	// clock is not synchronized.
	ReadClock(context.Context) (guestapi.Clock, bool)
	// SetHosts replaces the names in the guest's /etc/hosts.
	SetHosts([]configdisk.Host) error
	// Repair performs one of guestapi.Repairs and returns a description of what it did. The caller
	// ensures that no other request pauses services meanwhile.
	Repair(ctx context.Context, what string) (done []string, err error)
	// RequestShutdown returns at once.
	RequestShutdown(reason string)
}

// Config configures a Server.
type Config struct {
	Machine  Machine
	Console  *journal.Console
	Journal  *journal.Journal
	Reaper   *process.Reaper // starts sessions
	Path     string          // PATH of sessions
	Keeper   *machinebackup.Keeper
	Services []guestspec.Service // whose logs may be read
	Token    string              // of this boot
	Shell    bool                // sessions are allowed
}

// A Server is the endpoint.
type Server struct {
	config   Config
	limiter  *rateLimiter
	http     *http.Server
	sessions *sessions
}

// New returns a server. Call Listen to start it.
func New(config Config) *Server {
	s := &Server{config: config, sessions: newSessions()}
	s.limiter = newRateLimiter(config.Token, time.Now, func(refused int) {
		config.Console.Log(journal.Warn, journal.InitName, "the endpoint was asked without its token", "requests", refused)
	})
	return s
}

// Listen serves on address, in a goroutine that spawn starts, until Close.
func (s *Server) Listen(address netip.AddrPort, spawn func(name string, fn func())) error {
	l, err := net.Listen("tcp", address.String())
	if err != nil {
		return err
	}
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       withConn,
		ErrorLog:          log.New(s.config.Console.Warnings(), "", 0),
	}
	door := newDoorListener(l, maxUnproven, maxConnections)
	spawn("endpoint", func() { s.http.Serve(door) })
	s.config.Console.Log(journal.Info, journal.InitName, "endpoint listens", "address", address)
	return nil
}

// Close waits for running requests, such as the one for the shutdown.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
}

// handler returns the routes with the check of the token.
func (s *Server) handler() http.Handler { return s.limiter.authorize(s.routes()) }

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+guestapi.PathStatus, func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, s.config.Machine.Status(r.Context()))
	})
	mux.HandleFunc("GET "+guestapi.PathLogs, s.serveLogs)
	mux.HandleFunc("GET "+guestapi.PathMetrics, s.serveMetrics)
	mux.HandleFunc("POST "+guestapi.PathClock, func(w http.ResponseWriter, r *http.Request) {
		clock, kept := s.config.Machine.ReadClock(r.Context())
		if !kept {
			http.Error(w, "the clock is not kept yet", http.StatusServiceUnavailable)
			return
		}
		writeJSON(w, http.StatusOK, clock)
	})
	mux.HandleFunc("POST "+guestapi.PathHosts, func(w http.ResponseWriter, r *http.Request) {
		hosts, err := guestapi.ReadHosts(r.URL.Query())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := s.config.Machine.SetHosts(hosts); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST "+guestapi.PathShutdown, func(w http.ResponseWriter, _ *http.Request) {
		s.config.Machine.RequestShutdown("endpoint")
		writeJSON(w, http.StatusAccepted, struct{}{})
	})
	mux.HandleFunc("POST "+guestapi.PathRepair, s.serveRepair)
	mux.HandleFunc("GET "+guestapi.PathBackup, s.serveBackup)
	mux.HandleFunc("POST "+guestapi.PathRestore, s.serveRestore)
	mux.HandleFunc("POST "+guestapi.PathUpgrade, s.serveUpgrade)
	mux.HandleFunc("POST "+guestapi.PathSession, s.serveSession)
	return mux
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(v) // an error means that the client has disconnected
}
