package guest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/sovereign-sql/sov/internal/host/egress"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/netnstest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// A greeter listens on TCP, greets each client, and counts the connections.
type greeter struct {
	net.Listener
	came atomic.Int64
}

func greet(t *testing.T, l net.Listener) *greeter {
	t.Helper()
	g := &greeter{Listener: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			g.came.Add(1)
			io.WriteString(conn, "hello from "+l.Addr().String()+"\n")
			conn.Close()
		}
	}()
	return g
}

func (g *greeter) port() int { return g.Addr().(*net.TCPAddr).Port }

// tryScript returns a script that connects to an address and prints the greeting or the error.
func tryScript(host string, port int) string {
	return fmt.Sprintf("nc -w 5 %s %d </dev/null 2>&1 | head -n 1", host, port)
}

// TestGuestReachesNothing checks that a machine which `sov run` starts by default cannot reach
// services on this computer's loopback address, a name server or the internet. The same attempts
// reach the services with QEMU's egress.
func TestGuestReachesNothing(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	service := greet(t, l)
	datagrams, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	var heard atomic.Int64
	go func() {
		for b := make([]byte, 100); ; {
			if _, _, err := datagrams.ReadFrom(b); err != nil {
				return
			}
			heard.Add(1)
		}
	}()
	udp := datagrams.LocalAddr().(*net.UDPAddr).Port
	attempts := func(t *testing.T, g *guesttest.Guest) string {
		return strings.Join(g.Shell(t, tryScript("192.168.100.1", service.port())+fmt.Sprintf(`
			echo hello | nc -u -w 2 192.168.100.1 %d
			nslookup sov.test 192.168.100.3 2>&1 | grep -q NXDOMAIN && echo the name server answers
			true`, udp)), "\n")
	}

	options := localvm.Options{Artifact: guesttest.BuildWriter(t), State: t.TempDir()}
	g := guesttest.Boot(t, options)
	said := attempts(t, g)
	if strings.Contains(said, "hello") || strings.Contains(said, "answers") || service.came.Load() > 0 || heard.Load() > 0 || g.Network() != localvm.Restricted {
		t.Errorf("the guest reaches this computer (%d connections, %d datagrams): %q", service.came.Load(), heard.Load(), said)
	}
	clock := kept(t, g)
	if clock.Source != "port" || clock.Fault != "" {
		t.Errorf("the clock is kept by %+v", clock)
	}
	g.CutPower(t)

	options.Egress = true
	g = guesttest.Boot(t, options)
	said = attempts(t, g)
	if !strings.Contains(said, "hello from 127.0.0.1") || service.came.Load() == 0 || heard.Load() == 0 || g.Network() != localvm.ByQEMU {
		t.Errorf("QEMU's own egress: %d connections, %d datagrams: %q", service.came.Load(), heard.Load(), said)
	}
	g.CutPower(t)
}

// The addresses of the network around the computer in a test of passt. Only the LAN's address
// belongs to a private network.
const (
	computer = "203.0.113.1"
	router   = "203.0.113.10"
	world    = "198.51.100.7"
	lanHost  = "10.99.99.9"
	metadata = "169.254.169.254" // of cloud providers
)

// A place is a network namespace that simulates a computer on which sov runs. A router connects it
// to the simulated internet.
type place struct {
	t             *testing.T
	inside, other netns.NsHandle
	desk          *desk
	resolv        string // the computer's resolv.conf
}

func newPlace(t *testing.T) *place {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := egress.Find(); err != nil {
		t.Skip(err)
	}
	p := &place{t: t, inside: netnstest.New(t), other: netnstest.New(t), desk: &desk{t: t, dir: t.TempDir()}}
	p.resolv = filepath.Join(p.desk.dir, "resolv.conf")
	if err := os.WriteFile(p.resolv, []byte("nameserver "+world+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.in(p.inside, func() error {
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "wan"}, PeerName: "peer"}
		if err := netlink.LinkAdd(pair); err != nil {
			return err
		}
		peer, err := netlink.LinkByName("peer")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetNsFd(peer, int(p.other)), address("lo", ""), address("wan", computer+"/24"),
			netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(router)}))
	})
	p.in(p.other, func() error {
		return errors.Join(address("lo", world+"/32"), address("lo", lanHost+"/32"), address("lo", metadata+"/32"), address("peer", router+"/24"))
	})
	return p
}

// address adds an address to an interface, if prefix is not empty, and brings the interface up.
func address(name, prefix string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if prefix != "" {
		a, err := netlink.ParseAddr(prefix)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("%s on %s: %w", prefix, name, err)
		}
	}
	return netlink.LinkSetUp(link)
}

func (p *place) in(ns netns.NsHandle, do func() error) {
	p.t.Helper()
	if err := netnstest.In(ns, do); err != nil {
		p.t.Fatal(err)
	}
}

// greets starts a greeter at an address in a namespace.
func (p *place) greets(ns netns.NsHandle, host string) *greeter {
	p.t.Helper()
	var l net.Listener
	p.in(ns, func() (err error) {
		l, err = net.Listen("tcp4", net.JoinHostPort(host, "0"))
		return err
	})
	return greet(p.t, l)
}

// answersNames starts a name server on the simulated internet. It answers every query with the
// address 198.51.100.99.
func (p *place) answersNames() {
	p.t.Helper()
	var conn net.PacketConn
	p.in(p.other, func() (err error) {
		conn, err = net.ListenPacket("udp4", net.JoinHostPort(world, "53"))
		return err
	})
	p.t.Cleanup(func() { conn.Close() })
	go func() {
		for b := make([]byte, 512); ; {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			// RFC 1035, section 4.1: a response with one record. Its name is a pointer to the name
			// in the question.
			answer := append([]byte{}, b[:n]...)
			answer[2], answer[3], answer[7] = 0x81, 0x80, 0
			if kind := answer[n-3]; kind == 1 { // A
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 99)
			}
			conn.WriteTo(answer, from)
		}
	}()
}

// command returns a command of sov for the computer.
func (p *place) command(args ...string) *exec.Cmd {
	words := append([]string{"--mount", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, p.resolv, sovtest.Program}, args...)
	c := exec.Command("unshare", words...)
	p.desk.prepare(c, "")
	return c
}

// sov runs a command on the computer, which must succeed.
func (p *place) sov(args ...string) sovtest.Outcome {
	p.t.Helper()
	command := p.command(args...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	p.in(p.inside, command.Start)
	command.Wait()
	o := sovtest.Outcome{Status: command.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
	if o.Status != 0 {
		p.t.Fatalf("sov %s: %v", strings.Join(args, " "), o)
	}
	return o
}

// A placed machine is a running `sov run` on the computer.
type placed struct {
	command *exec.Cmd
	stderr  bytes.Buffer
	passt   int
	Network string `json:"network"`
}

// run starts a machine and waits until it is ready.
func (p *place) run(artifact string, args ...string) *placed {
	p.t.Helper()
	r := &placed{command: p.command(append([]string{"run", artifact, "--json"}, args...)...)}
	r.command.Stderr = &r.stderr
	stdout, err := r.command.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.in(p.inside, r.command.Start)
	p.t.Cleanup(func() { // if a test has failed before
		if r.command.ProcessState == nil {
			r.command.Process.Kill()
			r.command.Wait()
		}
	})
	if err := json.NewDecoder(stdout).Decode(r); err != nil {
		r.command.Wait()
		p.t.Fatalf("sov run: %v: %s", err, r.stderr.String())
	}
	go io.Copy(io.Discard, stdout)
	for _, pid := range children(p.t, r.command.Process.Pid) {
		if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.HasPrefix(string(name), "passt") {
			r.passt = pid
		}
	}
	if r.passt == 0 {
		p.t.Fatalf("no passt runs: %s", r.stderr.String())
	}
	return r
}

// children returns the child processes of a process.
func children(t *testing.T, pid int) (list []int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a thread has ended
		}
		for _, field := range strings.Fields(string(text)) {
			n, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, n)
		}
	}
	return list
}

func (p *place) awaitGone(pid int, what string) {
	p.t.Helper()
	sovtest.Await(p.t, sovtest.WaitLimit, what, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ") // not reaped yet
	})
}

// TestEgressByPasst checks that a machine reaches the internet and its names through passt, but not
// this computer, its LAN or the address where clouds serve credentials. passt ends with the machine
// and when sov is killed. The machine shuts down when passt ends.
func TestEgressByPasst(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	artifact := guesttest.BuildWriter(t)
	outside := p.greets(p.other, world)
	closed := map[string]*greeter{
		lanHost: p.greets(p.other, lanHost), metadata: p.greets(p.other, metadata),
		computer: p.greets(p.inside, computer), "192.168.100.1": p.greets(p.inside, "127.0.0.1"),
	}
	p.answersNames()

	r := p.run(artifact, "--egress")
	if r.Network != string(localvm.ByPasst) || !strings.Contains(p.sov("status", "small", "--local").Stdout, "network: the internet, by passt") {
		t.Errorf("the network is %q", r.Network)
	}
	script := func(g *greeter, host string) string {
		return p.sov("exec", "small", "--", "sh", "-c", tryScript(host, g.port())).Stdout
	}
	if said := script(outside, world); !strings.Contains(said, "hello from "+world) {
		t.Errorf("the world is not reached: %q", said)
	}
	if said := p.sov("exec", "small", "--", "sh", "-c", "nslookup sov.test; true").Stdout; !strings.Contains(said, "198.51.100.99") {
		t.Errorf("names are not answered: %q", said)
	}
	for host, g := range closed {
		if said := script(g, host); strings.Contains(said, "hello") || g.came.Load() > 0 {
			t.Errorf("%s is reached: %q", host, said)
		}
	}
	if err := r.command.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := r.command.Wait(); err != nil {
		t.Errorf("Ctrl-C: %v: %s", err, r.stderr.String())
	}
	p.awaitGone(r.passt, "passt's end with the machine")

	r = p.run(artifact, "--egress")
	if err := r.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	r.command.Wait()
	p.awaitGone(r.passt, "passt's end after sov was killed")

	r = p.run(artifact, "--egress")
	if err := syscall.Kill(r.passt, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := r.command.Wait(); err == nil || !strings.Contains(r.stderr.String(), "has lost its network: passt: signal: killed") {
		t.Errorf("passt was killed: %v: %s", err, r.stderr.String())
	}
	log, err := os.ReadFile(filepath.Join(p.desk.dir, "state/run/small-arm64/console.log"))
	if err != nil || !strings.Contains(string(log), "init: power off") {
		t.Errorf("it was not shut down in order: %v", err)
	}
}
