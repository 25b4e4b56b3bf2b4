package androidtest

import (
	"context"
	"net"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest/netd"
)

// HostIP is the address of the host that AddHost adds to the internet.
const HostIP = "203.0.113.20"

// A Host is another machine on the internet. It has a separate network, and the computer's files.
type Host struct {
	p       *Phone
	process *exec.Cmd
}

// AddHost adds a machine to the internet, at HostIP. The internet's server forwards packets between
// the phone and the host.
func (p *Phone) AddHost() *Host {
	p.t.Helper()
	h := &Host{p, p.namespaces(syscall.CLONE_NEWNET | syscall.CLONE_NEWNS)}
	out, err := exec.Command("ip", "link", "add", "eth0", "netns", strconv.Itoa(h.process.Process.Pid), "type", "veth",
		"peer", "name", "host0", "netns", strconv.Itoa(p.internet.Process.Pid)).CombinedOutput()
	if err != nil {
		p.t.Fatalf("make the host's link: %v: %s", err, out)
	}
	p.InternetShell(`echo 1 >/proc/sys/net/ipv4/ip_forward
		ip link set host0 up; ip route add ` + HostIP + ` dev host0; echo 1 >/proc/sys/net/ipv4/conf/host0/proxy_arp`)
	p.output(h.Command(p.t.Context(), "/bin/sh", "-euc", `mount --make-rprivate /
		ip link set lo up; ip addr add `+HostIP+`/32 dev eth0; ip link set eth0 up; ip route add default dev eth0`), "configure the host")
	return h
}

// Command returns a command that runs on the host, as root. The host has a separate mount
// namespace.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	return enter(ctx, h.process.Process.Pid, []string{"--net", "--mount"}, argv)
}

// Dial connects from the host. It fits pgconn.Config.DialFunc.
func (h *Host) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = netd.InNetwork(h.process.Process.Pid, func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// ServerCommand returns a command that runs on the internet's server, as root.
func (p *Phone) ServerCommand(ctx context.Context, argv ...string) *exec.Cmd {
	return enter(ctx, p.internet.Process.Pid, []string{"--net"}, argv)
}

func enter(ctx context.Context, pid int, spaces, argv []string) *exec.Cmd {
	args := append([]string{"--target", strconv.Itoa(pid)}, spaces...)
	command := exec.CommandContext(ctx, "nsenter", append(append(args, "--"), argv...)...)
	command.WaitDelay = time.Second
	return command
}
