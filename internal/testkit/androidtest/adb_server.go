package androidtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/childtest"
	"github.com/sovereign-sql/sov/internal/testkit/session"
)

// adbPatience bounds one call of the adb program.
const adbPatience = 5 * time.Minute

// An ADBServer is an adb server for one test, with a separate port and keys. It does not affect the
// computer's adb server. It ends with the test.
type ADBServer struct {
	t       session.T
	dir     string // holds the program and the keys
	port    string
	command *exec.Cmd
	ended   chan struct{} // closed when command has ended
}

// NewADBServer starts a server. It skips the test if the program adb is not installed.
func NewADBServer(t session.T) *ADBServer {
	t.Helper()
	real, err := exec.LookPath("adb")
	if err != nil {
		t.Skip("needs adb: Debian's package adb")
	}
	listen, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listen.Addr().String())
	listen.Close()
	s := &ADBServer{t: t, dir: t.TempDir(), port: port}
	// ADB_LOCAL_TRANSPORT_MAX_PORT limits the ports on which the server searches for emulators,
	// which start at 5555: the test does not see the computer's phones.
	script := fmt.Sprintf("#!/bin/sh\nHOME=%[1]s ANDROID_ADB_SERVER_PORT=%[2]s ADB_LOCAL_TRANSPORT_MAX_PORT=5553 exec %[3]s \"$@\"\n", s.dir, port, real)
	if err := childtest.WriteScript(s.Program(), script); err != nil {
		t.Fatal(err)
	}
	s.start()
	t.Cleanup(func() {
		s.stop()
		s.run("kill-server") // a client may have started another server
	})
	return s
}

// Program returns the path of an adb program that uses this server. The file is named adb, so that
// its folder can be in $PATH.
func (s *ADBServer) Program() string { return filepath.Join(s.dir, "adb") }

func (s *ADBServer) start() {
	s.t.Helper()
	s.command = exec.Command(s.Program(), "server", "nodaemon")
	s.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := childtest.Start(s.command, nil); err != nil {
		s.t.Fatal(err)
	}
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		s.command.Wait()
	}()
	deadline := time.Now().Add(adbPatience)
	for {
		conn, err := net.Dial("tcp4", "127.0.0.1:"+s.port)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("start an adb server: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *ADBServer) stop() {
	s.command.Process.Kill()
	<-s.ended
}

// Restart kills the server and starts another. All connections to phones are lost.
func (s *ADBServer) Restart() {
	s.t.Helper()
	s.stop()
	s.start()
}

// exec runs adb, for adbPatience at most.
func (s *ADBServer) exec(stdout, stderr io.Writer, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), adbPatience)
	defer cancel()
	command := exec.CommandContext(ctx, s.Program(), args...)
	command.Stdout, command.Stderr = stdout, stderr
	command.WaitDelay = time.Second
	return command.Run()
}

func (s *ADBServer) run(args ...string) (string, error) {
	var out bytes.Buffer
	err := s.exec(&out, &out, args...)
	return out.String(), err
}

// Run runs adb and returns its output. It fails the test if adb fails.
func (s *ADBServer) Run(args ...string) string {
	s.t.Helper()
	out, err := s.run(args...)
	if err != nil {
		s.t.Fatalf("adb %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

// Connect connects phones, again if they were connected, and waits until adb lists them.
func (s *ADBServer) Connect(phones ...*ADB) {
	s.t.Helper()
	for _, a := range phones {
		s.run("disconnect", a.Serial()) // fails if it is not connected
		deadline := time.Now().Add(adbPatience)
		for {
			out, _ := s.run("connect", a.Serial())
			if a.o.Silent {
				break
			}
			if devices, err := s.run("devices"); a.o.Unauthorized && err == nil && strings.Contains(devices, a.Serial()+"\tunauthorized") {
				break
			}
			if state, err := s.run("-s", a.Serial(), "get-state"); err == nil && strings.TrimSpace(state) == "device" {
				break
			}
			if time.Now().After(deadline) {
				s.t.Fatalf("adb connect: %s", out)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
