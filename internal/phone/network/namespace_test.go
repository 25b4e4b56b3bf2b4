package network

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
)

// flavours of iptables; Android has the first.
var flavours = []string{"iptables-legacy", "iptables-nft"}

// A phone is a network namespace that routes as Android does: tables for wlan0 and rmnet0, netd's rules, a final
// unreachable, and a FORWARD chain that drops.
type phone struct {
	testing.TB
	dir      string
	iptables string
	lock     string // of iptables in this phone's scripts
}

// newPhone moves the test's thread into a namespace of its own; it ends with the test.
func newPhone(t testing.TB, iptables string) *phone {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	path, err := exec.LookPath(iptables)
	if err != nil {
		t.Skipf("needs %s: %v", iptables, err)
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test, and the namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	p := &phone{t, memoryDir(t), path, filepath.Join(t.TempDir(), "xtables.lock")}
	p.sh(`
		echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; ip link set lo up # its addresses appear when they like
		ip link add wlan0 type veth peer name ap0; ip link set ap0 up; ip addr add 192.168.1.50/24 dev wlan0; ip link set wlan0 up
		ip link add rmnet0 type veth peer name cell0; ip link set cell0 up; ip addr add 10.20.30.40/32 dev rmnet0; ip link set rmnet0 up
		ip route add 192.168.1.0/24 dev wlan0 table 1010; ip route add default via 192.168.1.1 dev wlan0 table 1010
		ip route add default dev rmnet0 table 1011
		ip rule del pref 32766; ip rule del pref 32767
		ip rule add pref 10000 fwmark 0xc0000/0xd0000 lookup 99
		ip rule add pref 16000 fwmark 0x10064/0x1ffff iif lo lookup 1010
		ip rule add pref 16000 fwmark 0x10065/0x1ffff iif lo lookup 1011
		ip rule add pref 17000 iif lo oif wlan0 lookup 1010
		ip rule add pref 17000 iif lo oif rmnet0 lookup 1011
		ip rule add pref 31000 fwmark 0x0/0xffff iif lo lookup 1010
		ip rule add pref 32000 unreachable
		echo 0 >/proc/sys/net/ipv4/ip_forward
		echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter
		$IPTABLES -P FORWARD DROP; $IPTABLES -N tetherctrl_FORWARD; $IPTABLES -A FORWARD -j tetherctrl_FORWARD
		$IPTABLES -A tetherctrl_FORWARD -j DROP
		$IPTABLES -t nat -N tetherctrl_nat_POSTROUTING; $IPTABLES -t nat -A POSTROUTING -j tetherctrl_nat_POSTROUTING`)
	return p
}

// memoryDir is a folder in memory where there is one: the ledger is synced at each change, and a disk would be waited for
// most of a test's time.
func memoryDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "hostnet-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (p *phone) sh(script string) string {
	p.Helper()
	command := exec.Command("sh", "-euc", script)
	// The tests of this file run side by side, and without -w iptables gives up where another holds the lock.
	command.Env = append(os.Environ(), "IPTABLES="+p.iptables, "XTABLES_LOCKFILE="+p.lock)
	var out, said bytes.Buffer
	command.Stdout, command.Stderr = &out, &said
	if err := command.Run(); err != nil {
		p.Fatalf("%s: %v: %s", script, err, said.String())
	}
	return out.String()
}

func (p *phone) ledger() string { return filepath.Join(p.dir, "network.json") }

func (p *phone) host() *Host {
	p.Helper()
	h, err := Open(Options{Ledger: p.ledger(), IPTables: p.iptables, Log: func(s string) { p.Log(s) }})
	if err != nil {
		p.Fatal(err)
	}
	return h
}

var volatile = regexp.MustCompile(`\[\d+:\d+\]|(?m)^#.*\n|^\d+: |@if\d+|qlen \d+| linkdown|NO-CARRIER,|\b(UP|DOWN|UNKNOWN) +`)

// snapshot is the whole of what hostnet may touch, as text. What the kernel makes of a change of the carrier in its own time
// (net/core/link_watch.c) is left out: the operational state and what follows from it, and the far ends of the uplinks.
func (p *phone) snapshot() string {
	p.Helper()
	return volatile.ReplaceAllString(p.sh(`ip rule; ip route show table all | sort; ip -br link | grep -v -e ^ap0 -e ^cell0; ip -br -4 addr; $IPTABLES-save;
		cd /proc/sys/net/ipv4; grep . ip_forward conf/*/rp_filter`), "")
}

// same fails the test where two snapshots differ, with the lines that do.
func (p *phone) same(what, before, after string) {
	p.Helper()
	if before == after {
		return
	}
	for _, line := range androidtest.Differences(before, after) {
		p.Errorf("%s: %s", what, line)
	}
	if !p.Failed() {
		p.Errorf("%s: the order differs:\n%s\n--- before\n%s", what, after, before)
	}
}
