package androidtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
)

// ADBOptions configure a phone's adb daemon.
type ADBOptions struct {
	Unauthorized bool // every computer's key is unauthorized
	Silent       bool // it accepts connections and never answers

	Listen net.Listener // on the computer's loopback; the daemon closes it; nil: a free port
}

// shellUser is the ID of Android's user "shell", AID_SHELL.
const shellUser = 2000

// An ADB is a phone's adb daemon on a port of the computer's loopback, like Android's with
// debugging over the network. Debian's adb program connects to it. It can simulate faults of
// cables, networks and phones.
type ADB struct {
	p      *Phone
	o      ADBOptions
	listen net.Listener
	faults faults

	mu    sync.Mutex
	group *group // of the processes that it started
}

// ServeADB starts the phone's adb daemon, which ends with the test.
func (p *Phone) ServeADB(o ADBOptions) *ADB {
	p.t.Helper()
	listen := o.Listen
	if listen == nil {
		var err error
		if listen, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
			p.t.Fatal(err)
		}
	}
	a := &ADB{p: p, o: o, listen: listen, group: p.newGroup(0)}
	a.faults.init()
	p.daemons = append(p.daemons, a)
	ctx, cancel := context.WithCancel(context.Background())
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			conn, err := listen.Accept()
			if err != nil {
				return // closed
			}
			connections.Go(func() { a.serve(ctx, conn) })
		}
	})
	p.t.Cleanup(func() {
		cancel()
		listen.Close()
		a.faults.cut()
		connections.Wait()
	})
	return a
}

// Serial returns the phone's serial number in adb: the address for `adb connect`.
func (a *ADB) Serial() string { return a.listen.Addr().String() }

// banner returns the device's introduction: its properties, and the protocol features that it
// supports beyond the first version.
func (a *ADB) banner() []byte {
	return []byte("device::ro.product.name=simulated;ro.product.model=Simulated_Phone;ro.product.device=" + strings.ReplaceAll(a.Serial(), ":", "_") +
		";features=shell_v2,cmd,stat_v2,ls_v2")
}

// A transport is the connection of one adb server.
type transport struct {
	a    *ADB
	ctx  context.Context
	conn net.Conn

	writing sync.Mutex
	mu      sync.Mutex
	next    uint32
	streams map[uint32]*adbStream // by this end's stream ID
	running sync.WaitGroup        // services
}

// serve serves one adb server until the server or the test closes the connection.
func (a *ADB) serve(ctx context.Context, conn net.Conn) {
	conn = a.faults.wrap(conn)
	ctx, cancel := context.WithCancel(ctx)
	t := &transport{a: a, ctx: ctx, conn: conn, streams: map[uint32]*adbStream{}}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	if err := t.loop(); !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.a.p.note("adbd", err.Error())
	}
	stop()
	cancel()
	conn.Close()
	t.mu.Lock()
	for _, s := range t.streams {
		s.shut()
	}
	t.mu.Unlock()
	t.running.Wait()
}

func (p *Phone) note(program, line string) { note(p.path("calls/"+program), line) }

func (t *transport) send(m adbMessage) error {
	t.writing.Lock()
	defer t.writing.Unlock()
	_, err := t.conn.Write(m.append(nil))
	return err
}

// loop handles messages until one cannot be read or is invalid. The error is never nil.
func (t *transport) loop() error {
	in := bufio.NewReader(t.conn)
	for {
		m, err := readADB(in)
		if err != nil {
			return err
		}
		if err := t.handle(m); err != nil {
			return err
		}
	}
}

// authToken requests a signature of 20 bytes, here zeros (protocol.txt, AUTH(TOKEN)).
var authToken = adbMessage{command: adbAuth, arg0: 1, data: make([]byte, 20)}

const authPublicKey = 3 // a public key, for which the phone shows a dialog

func (t *transport) handle(m adbMessage) error {
	t.mu.Lock()
	s := t.streams[m.arg1]
	t.mu.Unlock()
	switch m.command {
	case adbConnect:
		switch {
		case t.a.o.Silent:
			return nil
		case t.a.o.Unauthorized:
			return t.send(authToken)
		}
		return t.send(adbMessage{command: adbConnect, arg0: adbVersion, arg1: adbMaxPayload, data: t.a.banner()})
	case adbAuth:
		if m.arg0 == authPublicKey {
			return nil // the dialog on the phone's screen is not answered
		}
		return t.send(authToken)
	case adbOpen:
		return t.open(m.arg0, strings.TrimRight(string(m.data), "\x00"))
	case adbOkay:
		if s != nil {
			s.acknowledged()
		}
	case adbWrite:
		if s == nil {
			return t.send(adbMessage{command: adbClose, arg1: m.arg0})
		}
		return s.deliver(m.data)
	case adbClose:
		if s != nil {
			s.shut()
		}
	default:
		return fmt.Errorf("unknown message %#x", m.command)
	}
	return nil
}

// open starts a service on a new stream.
func (t *transport) open(remote uint32, service string) error {
	serve := t.service(service)
	if serve == nil {
		t.a.p.note("adbd", "no service "+service)
		return t.send(adbMessage{command: adbClose, arg1: remote})
	}
	t.mu.Lock()
	t.next++
	s := &adbStream{t: t, local: t.next, remote: remote, in: make(chan []byte, 1), ack: make(chan struct{}, 1), closed: make(chan struct{})}
	t.streams[s.local] = s
	t.mu.Unlock()
	if err := t.send(adbMessage{command: adbOkay, arg0: s.local, arg1: remote}); err != nil {
		return err
	}
	t.running.Go(func() {
		serve(s)
		s.Close()
		t.mu.Lock()
		delete(t.streams, s.local)
		t.mu.Unlock()
	})
	return nil
}

// service returns the function that serves a service's name, or nil if the service is unsupported.
func (t *transport) service(name string) func(*adbStream) {
	kind, argument, _ := strings.Cut(name, ":")
	switch kind, _, _ := strings.Cut(kind, ","); {
	case kind == "shell" && strings.HasPrefix(name, "shell,v2"):
		return func(s *adbStream) { t.shellV2(s, argument) }
	case kind == "shell" || kind == "exec":
		return func(s *adbStream) { t.shellV1(s, argument) }
	case name == "sync:":
		return func(s *adbStream) { (&syncService{t: t, s: s}).serve() }
	}
	return nil
}

// RestartDaemon replaces adbd, as `adb root`, `adb tcpip` and a change of the USB mode do: init
// kills all processes that adbd started (system/core/init/service.cpp). ADBServer.Connect
// reconnects.
func (a *ADB) RestartDaemon() {
	a.p.t.Helper()
	a.mu.Lock()
	old := a.group
	a.group = a.p.newGroup(0)
	a.mu.Unlock()
	if err := old.kill(); err != nil {
		a.p.t.Fatal(err)
	}
	a.Cut()
}

// asShell returns a command that runs in the phone as a child of adbd.
func (t *transport) asShell(argv ...string) *exec.Cmd {
	command := t.a.p.Command(t.ctx, argv...)
	if t.a.p.superuser != RootShell {
		user := strconv.Itoa(shellUser)
		command.Args = append([]string{command.Args[0], "--setuid", user, "--setgid", user}, command.Args[1:]...)
	}
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	command.SysProcAttr = t.a.group.attributes()
	return command
}

// An adbStream is one stream of a transport. It carries bytes in both directions. Each message is
// acknowledged before the next is sent.
type adbStream struct {
	t             *transport
	local, remote uint32
	in            chan []byte
	ack           chan struct{}
	closed        chan struct{}
	closing       sync.Once
	rest          []byte
}

// deliver queues data from the other end. The other end may send one message before it is
// acknowledged; a second one is an error.
func (s *adbStream) deliver(data []byte) error {
	select {
	case s.in <- data:
		return nil
	default:
		return errors.New("a message came before the last one was acknowledged")
	}
}

func (s *adbStream) acknowledged() {
	select {
	case s.ack <- struct{}{}:
	default:
	}
}

func (s *adbStream) shut() { s.closing.Do(func() { close(s.closed) }) }

// Close implements io.Closer.
func (s *adbStream) Close() error {
	s.shut()
	return s.t.send(adbMessage{command: adbClose, arg0: s.local, arg1: s.remote})
}

// Read implements io.Reader.
func (s *adbStream) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		select {
		case s.rest = <-s.in:
		case <-s.closed:
			return 0, io.EOF
		}
		if err := s.t.send(adbMessage{command: adbOkay, arg0: s.local, arg1: s.remote}); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// Write implements io.Writer.
func (s *adbStream) Write(p []byte) (int, error) {
	for sent := 0; sent < len(p); {
		data := p[sent:min(len(p), sent+adbMaxPayload/4)]
		if err := s.t.send(adbMessage{command: adbWrite, arg0: s.local, arg1: s.remote, data: data}); err != nil {
			return sent, err
		}
		select {
		case <-s.ack:
		case <-s.closed:
			return sent, io.ErrClosedPipe
		}
		sent += len(data)
	}
	return len(p), nil
}
