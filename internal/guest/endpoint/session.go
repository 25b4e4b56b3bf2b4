//go:build linux

package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/session"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

const (
	// maxSessions is the number of sessions at once. Each uses one of the endpoint's connections;
	// most of those must stay free for requests.
	maxSessions = 8
	// sessionOOMScore makes the kernel kill a session's processes before services.
	sessionOOMScore = 300
	// maxLoggedCommand is how many bytes of a command line the log shows.
	maxLoggedCommand = 400
)

// sessionShell is the default command of a session: a login shell, which reads /etc/profile.
var sessionShell = []string{"/bin/sh", "-l"}

// sessions are the running shells and commands.
type sessions struct {
	slots  chan struct{}
	number atomic.Int64 // of this boot
	ending context.Context
	end    context.CancelFunc
}

func newSessions() *sessions {
	s := &sessions{slots: make(chan struct{}, maxSessions)}
	s.ending, s.end = context.WithCancel(context.Background())
	return s
}

// EndSessions ends all sessions and refuses new ones. It does not wait for their end.
func (s *Server) EndSessions() { s.sessions.end() }

// serveSession upgrades a request to a session and runs it.
func (s *Server) serveSession(w http.ResponseWriter, r *http.Request) {
	switch {
	case !s.config.Shell:
		http.Error(w, guestapi.NoShell, http.StatusNotFound)
		return
	case s.sessions.ending.Err() != nil:
		http.Error(w, "the machine shuts down", http.StatusServiceUnavailable)
		return
	case r.Header.Get("Upgrade") != session.Protocol:
		w.Header().Set("Upgrade", session.Protocol)
		http.Error(w, "a session needs the protocol "+session.Protocol, http.StatusUpgradeRequired)
		return
	}
	select {
	case s.sessions.slots <- struct{}{}:
		defer func() { <-s.sessions.slots }()
	default:
		http.Error(w, fmt.Sprintf("%d sessions are open, which is the limit: end one of them", maxSessions), http.StatusTooManyRequests)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	if err := switchProtocol(conn); err != nil {
		return // the caller has disconnected
	}
	s.runSession(session.NewConn(buffered.Reader, conn, conn.Close))
}

// switchProtocol sends the response after which the connection carries frames.
func switchProtocol(conn net.Conn) error {
	if err := conn.SetDeadline(time.Time{}); err != nil { // those of the server
		return err
	}
	_, err := fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n",
		http.StatusSwitchingProtocols, http.StatusText(http.StatusSwitchingProtocols), session.Protocol)
	return err
}

// runSession runs the command in the first frame until it ends, the client disconnects, or the
// machine shuts down.
func (s *Server) runSession(conn *session.Conn) {
	first, err := conn.Receive()
	if err != nil || first.Kind != session.Begin {
		return
	}
	start, err := session.ParseStart(first.Payload)
	if err != nil {
		_ = conn.SendJSON(session.End, session.Exit{Status: session.StatusNotExecutable, Fault: err.Error()}) // or it has gone
		return
	}
	log := func(text string, attrs ...any) {
		s.config.Console.Log(journal.Info, journal.InitName, text, attrs...)
	}
	number := s.sessions.number.Add(1)
	began := time.Now()
	log("session begins", "session", number, "user", start.User, "caller", start.Caller, "terminal", start.Terminal != nil, "command", loggedCommand(start.Command))
	exit, how := s.attendPaused(conn, start)
	log("session ended", "session", number, "how", how, "status", exit.Status, "after", time.Since(began).Round(time.Millisecond))
	_ = conn.SendJSON(session.End, exit) // or the caller has disconnected
}

// loggedCommand is a command line as the log shows it.
func loggedCommand(argv []string) string {
	if len(argv) == 0 {
		return "a shell"
	}
	line := strings.Join(argv, " ")
	if len(line) > maxLoggedCommand {
		line = strings.ToValidUTF8(line[:maxLoggedCommand], "") + "…"
	}
	return line
}

// attendPaused stops the service that the session names, and runs the command while the service is
// stopped.
func (s *Server) attendPaused(conn *session.Conn, start session.Start) (exit session.Exit, how string) {
	if start.Pause == "" {
		return s.attend(conn, start)
	}
	resume, err := s.pause(conn, start.Pause)
	if err != nil {
		return session.Exit{Status: session.StatusNotExecutable, Fault: err.Error()}, "not started: " + err.Error()
	}
	defer resume()
	return s.attend(conn, start)
}

// pause stops a service for a session, and sends keep-alives to the client meanwhile.
func (s *Server) pause(conn *session.Conn, service string) (resume func(), err error) {
	end, err := s.config.Keeper.Reserve()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(s.sessions.ending, guestapi.RepairTime, fmt.Errorf("it took longer than %s", guestapi.RepairTime))
	defer cancel()
	go func() {
		if conn.KeepAlive(ctx) != nil { // the caller has disconnected
			cancel()
		}
	}()
	again, err := s.config.Keeper.Supervisor.Pause(ctx, service)
	if err != nil {
		end()
		return nil, err
	}
	return func() {
		again()
		end()
	}, nil
}

// attend runs a session's command. how describes its end for the log.
func (s *Server) attend(conn *session.Conn, start session.Start) (exit session.Exit, how string) {
	p, err := s.startSession(start)
	if err != nil {
		exit = session.Exit{Status: session.StatusNotExecutable, Fault: err.Error()}
		if errors.Is(err, fs.ErrNotExist) {
			exit.Status = session.StatusNotFound
		}
		return exit, "not started: " + err.Error()
	}
	defer p.Close()
	lost := make(chan struct{})
	gone := sync.OnceFunc(func() {
		conn.Close()
		close(lost)
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		if conn.KeepAlive(ctx) != nil {
			gone()
		}
	}()
	go func() {
		takeInput(conn, p, start.Terminal != nil)
		gone()
	}()
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		passOutput(conn, p)
	}()
	select {
	case <-p.Ended:
		how = p.Outcome()
	case <-lost:
		how = "the caller has disconnected"
	case <-s.sessions.ending.Done():
		how = "the machine shuts down"
		exit.Fault = how
	}
	p.End()
	// Send the remaining output even to a slow client, but not after it has disconnected or while
	// the machine shuts down.
	select {
	case <-passed:
	case <-lost:
	case <-s.sessions.ending.Done():
	}
	select {
	case <-p.Ended:
		exit.Status = p.Status()
	case <-time.After(process.KillLimit): // it is blocked on a disk that does not answer
		exit.Fault = "it cannot be killed"
	}
	return exit, how
}

// startSession starts a session's process.
func (s *Server) startSession(start session.Start) (*process.Attached, error) {
	argv, env := start.Command, start.Env
	if len(argv) == 0 {
		argv = sessionShell
	}
	program, err := lookUp(argv[0], s.config.Path)
	if err != nil {
		return nil, err
	}
	dir := "/"
	if _, account, err := process.Credential(start.User, ""); err == nil {
		if info, err := os.Stat(account.HomeDir); err == nil && info.IsDir() {
			dir = account.HomeDir
		}
	}
	return process.Command{
		Argv: append([]string{program}, argv[1:]...), User: start.User, Path: s.config.Path, Env: env, Dir: dir,
		Name: "session", OOMScoreAdj: sessionOOMScore,
	}.Attach(s.config.Reaper, winsize(start.Terminal))
}

// lookUp finds a program as a shell would (POSIX, Base Definitions, 8.3).
func lookUp(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(path) {
		full := filepath.Join(dir, name)
		if info, err := os.Stat(full); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return full, nil
		}
	}
	return "", fmt.Errorf("%s: %w in %s", name, fs.ErrNotExist, path)
}

// takeInput passes the client's frames to the process until the connection ends. Input that the
// process does not read is discarded.
func takeInput(conn *session.Conn, p *process.Attached, terminal bool) {
	for {
		f, err := conn.Receive()
		if err != nil {
			return
		}
		switch f.Kind {
		case session.Input:
			_, _ = p.In.Write(f.Payload)
		case session.InputEnd:
			if terminal {
				return // the client has closed its terminal
			}
			p.In.Close()
		case session.Resize:
			var size session.Size
			if terminal && json.Unmarshal(f.Payload, &size) == nil {
				_ = p.Resize(winsize(&size)) // the process has ended
			}
		default:
			return
		}
	}
}

// passOutput sends the process's output until the process or the connection ends.
func passOutput(conn *session.Conn, p *process.Attached) {
	var streams sync.WaitGroup
	for kind, f := range map[session.Kind]*os.File{session.Output: p.Out, session.Errors: p.Err} {
		if f != nil {
			streams.Go(func() { _ = conn.Copy(kind, attachedReader{p, f}) }) // a disconnected client is detected elsewhere
		}
	}
	streams.Wait()
}

// An attachedReader reads one of a process's outputs.
type attachedReader struct {
	p *process.Attached
	f *os.File
}

// Read implements io.Reader.
func (r attachedReader) Read(b []byte) (int, error) { return r.p.Read(r.f, b) }

// winsize converts a size to the kernel's struct; nil means no terminal.
func winsize(size *session.Size) *unix.Winsize {
	if size == nil {
		return nil
	}
	return &unix.Winsize{Row: size.Rows, Col: size.Columns}
}
