// Package egress connects the network card of a machine in QEMU to this computer's network, but not
// to this computer itself: the guest's frames pass a filter in this process and then passt
// (https://passt.top), which translates them to sockets of an unprivileged process.
//
// passt alone is not enough: with --no-map-gw it still connects a guest that sends a packet to
// 127.0.0.1 with this computer's loopback (seen with the version of Debian 12), to this computer's
// other addresses, and to 169.254.169.254, where clouds keep credentials.
//
// passt ends when its socket pair has no peer any more, so it ends with this process, even if that
// is killed.
package egress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sovereign-sql/sov/internal/host/qemu"
)

// Program is the name of passt.
const Program = "passt"

// Find returns the path of passt, or an error that says how to install it.
func Find() (string, error) {
	path, err := exec.LookPath(Program)
	if err != nil {
		if runtime.GOOS != "linux" {
			return "", fmt.Errorf("%s is for Linux only", Program)
		}
		return "", fmt.Errorf("%s is not installed (apt-get install passt)", Program)
	}
	return path, nil
}

// Options describe the guest's subnet, and what it may reach.
type Options struct {
	Program string       // the path of passt
	Guest   netip.Prefix // the guest's address in its subnet
	Host    netip.Addr   // its gateway, from which forwarded connections come
	DNS     netip.Addr   // the address of the resolver, which forwards to this computer's
	MTU     int          // bytes
	Forward []qemu.Forward
	LAN     bool // it may also reach private networks
	Self    bool // it may reach this computer's addresses, except loopback
}

// HardwareAddress is the guest's hardware address: locally administered, like QEMU's defaults.
const HardwareAddress = "52:54:00:12:34:56"

// hostHardwareAddress is the gateway's hardware address. passt's default would reveal that of this
// computer's card.
const hostHardwareAddress = "52:55:0a:00:02:02"

// startLimit is the timeout of passt's first answer, which takes about 10 ms on an idle machine.
const startLimit = 30 * time.Second

// A Network is a running passt with the filter.
type Network struct {
	card  *os.File // QEMU's end
	guest net.Conn // the other end of it
	passt net.Conn
	ports map[qemu.Forward]uint16 // by Forward.Asked

	process *exec.Cmd
	words   words
	exited  chan struct{}
	err     error // set before exited is closed
	lost    chan struct{}
	// unplugged is set after QEMU has closed its end, or Close was called: passt is expected to end
	// then.
	unplugged atomic.Bool
	relays    sync.WaitGroup
}

// Start starts passt and returns when it answers. The caller must close the Network.
func Start(ctx context.Context, o Options) (*Network, error) {
	n, err := start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", Program, err)
	}
	return n, nil
}

func start(ctx context.Context, o Options) (*Network, error) {
	forward, free, err := reserve(o.Forward)
	if err != nil {
		return nil, err
	}
	defer free()
	n := &Network{ports: make(map[qemu.Forward]uint16), exited: make(chan struct{}), lost: make(chan struct{})}
	var theirs *os.File
	if n.passt, theirs, err = qemu.SocketPair(Program); err != nil {
		return nil, err
	}
	defer theirs.Close()
	if n.guest, n.card, err = qemu.SocketPair("card"); err != nil {
		n.passt.Close()
		return nil, err
	}
	for _, f := range forward {
		n.ports[f.Asked()] = f.Port
	}
	n.process = exec.Command(o.Program, arguments(o, forward)...)
	n.process.Stderr = &n.words
	n.process.ExtraFiles = []*os.File{theirs}
	// The terminal's Ctrl-C must not end passt: the guest needs its network to shut down.
	n.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := n.process.Start(); err != nil {
		return nil, errors.Join(err, n.closeSockets())
	}
	theirs.Close()
	go func() {
		n.err = n.words.explain(n.process.Wait())
		close(n.exited)
		if !n.unplugged.Load() {
			close(n.lost)
		}
	}()
	if err := n.greet(ctx, o); err != nil {
		closed := n.Close()
		return nil, errors.Join(n.words.explain(err), closed)
	}
	filter := newFilter(o)
	open := &unanswered{toGuest: newSink(n.guest), toPasst: newSink(n.passt)}
	n.relays.Go(func() {
		defer n.passt.Close() // which ends passt
		if err := relay(open.toPasst, n.guest, func(frame []byte) bool {
			return open.answered(frame) && filter.passes(frame)
		}); err != nil && !errors.Is(err, net.ErrClosed) {
			n.unplugged.Store(true)
		}
	})
	// The end of this relay needs no action: passt's end is detected by its exit, QEMU's by the
	// other relay.
	n.relays.Go(func() {
		_ = relay(open.toGuest, n.passt, func(frame []byte) bool {
			filter.asked(frame)
			return open.offered(frame)
		})
	})
	return n, nil
}

// arguments returns passt's arguments. Its end of the socket pair is file descriptor 3.
func arguments(o Options, forward []qemu.Forward) []string {
	args := []string{
		"--foreground", "--quiet", "--ipv4-only", "--fd", "3", "--no-map-gw", "--no-dhcp", "--mtu", strconv.Itoa(o.MTU),
		"--address", o.Guest.Addr().String(), "--netmask", strconv.Itoa(o.Guest.Bits()), "--gateway", o.Host.String(),
		"--mac-addr", hostHardwareAddress, "--dns-forward", o.DNS.String(),
	}
	for _, f := range forward {
		args = append(args, "--"+f.Protocol()+"-ports", fmt.Sprintf("127.0.0.1/%d:%d", f.Port, f.Guest))
	}
	return args
}

// greet sends passt an ARP request for the gateway, like the guest. When passt answers, it listens.
func (n *Network) greet(ctx context.Context, o Options) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { n.passt.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	request := arpRequest(o.Guest.Addr(), o.Host)
	if _, err := n.passt.Write(append(length(request), request...)); err != nil {
		return fmt.Errorf("it does not take frames: %w", err)
	}
	frames := newFrames(n.passt)
	for {
		frame, err := frames.next()
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("it did not answer within %v", startLimit)
		}
		if err != nil {
			return fmt.Errorf("it does not answer: %w", err)
		}
		if isARPReply(frame) {
			return nil
		}
	}
}

// Card returns QEMU's end of the socket, which the caller closes after QEMU has started.
func (n *Network) Card() *os.File { return n.card }

// Port returns the port of 127.0.0.1 at which a forwarded port of the guest is reachable.
func (n *Network) Port(f qemu.Forward) uint16 { return n.ports[f.Asked()] }

// PID returns the process ID of passt.
func (n *Network) PID() int { return n.process.Process.Pid }

// Lost is closed when passt has ended although the card was still connected; Err says how.
func (n *Network) Lost() <-chan struct{} { return n.lost }

// Err waits for passt's end and says how it ended.
func (n *Network) Err() error {
	<-n.exited
	if n.err == nil {
		return errors.New("it ended")
	}
	return n.err
}

// Close ends passt and waits for its end. It may be called twice.
func (n *Network) Close() error {
	n.unplugged.Store(true)
	err := n.process.Process.Kill()
	<-n.exited
	err = errors.Join(ignoreDone(err), n.closeSockets())
	n.relays.Wait()
	return err
}

func ignoreDone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

func (n *Network) closeSockets() error {
	var failed error
	for _, err := range []error{n.guest.Close(), n.passt.Close(), n.card.Close()} {
		if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrClosed) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// reserve chooses ports of loopback for those that are 0, and reserves them until free is called:
// they are bound without listening, so passt can bind them too (SO_REUSEADDR in socket(7)).
func reserve(wanted []qemu.Forward) (chosen []qemu.Forward, free func(), err error) {
	var sockets []int
	free = func() {
		for _, s := range sockets {
			syscall.Close(s)
		}
	}
	for _, f := range wanted {
		if f.Port == 0 {
			socket, port, err := bindAny(f.UDP)
			if err != nil {
				free()
				return nil, nil, fmt.Errorf("find a free port: %w", err)
			}
			sockets = append(sockets, socket)
			f.Port = port
		}
		chosen = append(chosen, f)
	}
	return chosen, free, nil
}

func bindAny(udp bool) (socket int, port uint16, err error) {
	kind := syscall.SOCK_STREAM
	if udp {
		kind = syscall.SOCK_DGRAM
	}
	syscall.ForkLock.RLock()
	socket, err = syscall.Socket(syscall.AF_INET, kind, 0)
	if err == nil {
		syscall.CloseOnExec(socket)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return 0, 0, fmt.Errorf("socket: %w", err)
	}
	err = syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var address syscall.Sockaddr
	if err == nil {
		address, err = syscall.Getsockname(socket)
	}
	if err != nil {
		syscall.Close(socket)
		return 0, 0, fmt.Errorf("bind 127.0.0.1: %w", err)
	}
	return socket, uint16(address.(*syscall.SockaddrInet4).Port), nil
}

// words keeps the beginning of passt's standard error.
type words struct{ text bytes.Buffer }

// maxWords is the size of words, in bytes.
const maxWords = 4096

func (w *words) Write(b []byte) (int, error) {
	w.text.Write(b[:min(len(b), maxWords-w.text.Len())])
	return len(b), nil
}

// explain adds passt's messages to an error, without those about a missing syslog.
func (w *words) explain(err error) error {
	var lines []string
	for line := range strings.Lines(w.text.String()) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "syslog") {
			lines = append(lines, line)
		}
	}
	if err == nil || len(lines) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.Join(lines, "; "))
}
