package network

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/netd"
)

// flavours are the kinds of iptables. Android has the first.
var flavours = []string{"iptables-legacy", "iptables-nft"}

// A phone is a network namespace with the network of a simulated Android phone: see package netd.
type phone struct {
	testing.TB
	net      *netd.Netd
	dir      string
	iptables string
	lock     string // of iptables in this phone's scripts
}

// newPhone moves the test's thread into a new namespace, which ends with the test. Wi-Fi and mobile
// data are connected. The phone checks source addresses, as some vendors configure it.
func newPhone(t testing.TB, iptables string) *phone {
	t.Helper()
	return newPhoneOf(t, iptables, netd.AOSP)
}

func newPhoneOf(t testing.TB, iptables string, system netd.System) *phone {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	path, err := exec.LookPath(iptables)
	if err != nil {
		t.Skipf("needs %s: %v", iptables, err)
	}
	runtime.LockOSThread() // never unlocked: the thread and the namespace end with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	p := &phone{TB: t, dir: memoryDir(t), iptables: path, lock: filepath.Join(t.TempDir(), "xtables.lock")}
	requesters := filepath.Join(p.dir, "ipfwd")
	if err := os.Mkdir(requesters, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := netd.WriteNDC(p.ndc(), requesters); err != nil {
		t.Fatal(err)
	}
	p.net = netd.New(t, netd.Options{System: system, State: requesters, Internet: p.place(), NewPlace: p.place,
		Phone: netd.Place{PID: unix.Gettid(), Shell: p.sh}})
	p.net.ToScene(netd.Both)
	p.sh("echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter")
	return p
}

// ndc is the path of the phone's ndc. A host uses it only if Options has the path.
func (p *phone) ndc() string { return filepath.Join(p.dir, "ndc") }

// place makes a second network namespace, which ends with the test.
func (p *phone) place() netd.Place {
	p.Helper()
	keeper := exec.Command("sleep", "infinity")
	keeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := keeper.Start(); err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { keeper.Process.Kill(); keeper.Wait() })
	pid := keeper.Process.Pid
	return netd.Place{PID: pid, Shell: func(script string) string {
		p.Helper()
		return p.run(exec.Command("nsenter", "--net", "--target", strconv.Itoa(pid), "sh", "-euc", script), script)
	}}
}

// memoryDir returns a folder in memory if possible. The ledger is synced at each change, and a test
// would spend most of its time waiting for a disk.
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
	return p.run(exec.Command("sh", "-euc", script), script)
}

func (p *phone) run(command *exec.Cmd, what string) string {
	p.Helper()
	// The tests of this file run in parallel. Without -w iptables fails if another process has the
	// lock.
	command.Env = append(os.Environ(), "IPTABLES="+p.iptables, "IP6TABLES="+strings.Replace(p.iptables, "iptables", "ip6tables", 1), "XTABLES_LOCKFILE="+p.lock)
	var out, said bytes.Buffer
	command.Stdout, command.Stderr = &out, &said
	if err := command.Run(); err != nil {
		p.Fatalf("%s: %v: %s", what, err, said.String())
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

// snapshot returns everything that hostnet may change, as text.
func (p *phone) snapshot() string {
	p.Helper()
	return androidtest.Configuration(p.sh, "$IPTABLES-save; $IP6TABLES-save")
}

// same fails the test if two snapshots differ, with the lines that differ.
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
