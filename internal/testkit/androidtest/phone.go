package androidtest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/host/phonereport"
	"github.com/sovereign-sql/sov/internal/image/verity"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/netd"
	"github.com/sovereign-sql/sov/internal/testkit/await"
	"github.com/sovereign-sql/sov/internal/testkit/sealtest"
	"github.com/sovereign-sql/sov/internal/testkit/session"
)

// Options configure a phone. The zero value is a phone that has booted, with Android's defaults.
type Options struct {
	IPTables     string          // "iptables-legacy" (the default, as on Android) or "iptables-nft"
	Superuser    Superuser       // empty: Magisk
	StillBooting bool            // sys.boot_completed is not set until SetProp sets it
	Build        crosvmcli.Build // its crosvm, which determines the release; zero: DefaultRelease's, for Hypervisor
	InMemory     bool            // its files are in memory if there is enough space: for many small synced writes
	Hypervisor   Hypervisor      // empty: KVM
	System       netd.System     // which system's netd it runs; zero: AOSP's
	NoNDC        bool            // its image lacks the program ndc

	Program string // path of sov-simulator; empty: it is compiled, and so is Runner
	Runner  string // path of the sov-runner to copy to the phone; empty: none
	Data    string // a folder for the phone's /data, which is kept; empty: a temporary one

	Report *phonereport.Report // of the phone to imitate, instead of Build, Superuser and Hypervisor; nil: none
}

// A Phone is a simulated phone. Its methods fail the test on errors.
type Phone struct {
	t         session.T
	dir       string // the phone's folders, on the computer
	iptables  string
	superuser Superuser
	cgroup    *group    // root of its control groups
	phone     *exec.Cmd // first process of the phone
	internet  *exec.Cmd // a process in the internet's network
	daemons   []*ADB
	Net       *netd.Netd
	options   Options
	limited   bool // /data/sovereign is a file system that the computer does not see
}

// New starts a phone, which ends with the test. It skips the test if the user is not root.
func New(t session.T, o Options) *Phone {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes namespaces for a simulated phone")
	}
	if o.Program == "" {
		o.Program, o.Runner = builtProgram(t, simulator), Runner(t)
	}
	if o.IPTables == "" {
		o.IPTables = "iptables-legacy"
	}
	o = o.withReport()
	if o.Build.Release == "" {
		o.Build = on(DefaultBuild(DefaultRelease()), o.Hypervisor)
	}
	if o.System == (netd.System{}) {
		o.System = netd.AOSP
	}
	p := &Phone{t: t, dir: folder(t, o.InMemory), superuser: cmp.Or(o.Superuser, Magisk), options: o}
	var err error
	if p.iptables, err = exec.LookPath(o.IPTables); err != nil {
		t.Skipf("needs %s: %v", o.IPTables, err)
	}
	p.makeCgroup()
	p.furnish(o)
	if o.Data != "" {
		p.boot(false)
	} else {
		p.powerOn()
	}
	return p
}

// powerOn starts the phone's first process and its network.
func (p *Phone) powerOn() {
	p.t.Helper()
	p.write("boot_id", uuid()+"\n", 0o444)
	p.phone = p.firstProcess()
	p.internet = p.namespaces(syscall.CLONE_NEWNET)
	p.connect(p.options)
	if p.options.Report != nil {
		p.applyReport(p.options.Report)
	}
}

// powerOff kills every process of the phone.
func (p *Phone) powerOff() {
	p.t.Helper()
	for _, process := range []*exec.Cmd{p.phone, p.internet} {
		process.Process.Kill() // killing a namespace's first process kills the whole namespace
		process.Wait()
	}
	for _, a := range p.daemons {
		a.Cut()
	}
	p.limited = false
}

// uuid returns a random boot ID in the kernel's format (drivers/char/random.c).
func uuid() string {
	b := make([]byte, 16)
	rand.Read(b)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// folder creates a folder for the phone's files. With inMemory it is in /dev/shm if that has enough
// space.
func folder(t session.T, inMemory bool) string {
	const memory, enough = "/dev/shm", 1 << 30 // bytes; containers may have far less
	var room unix.Statfs_t
	if !inMemory || unix.Statfs(memory, &room) != nil || room.Bavail*uint64(room.Bsize) < enough {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "androidtest-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// firstProcess starts a copy of this program as the phone's first process.
func (p *Phone) firstProcess() *exec.Cmd {
	p.t.Helper()
	command := &exec.Cmd{Path: "/proc/self/exe", Args: []string{keeperName, p.dir}, Stderr: os.Stderr, SysProcAttr: p.cgroup.attributes()}
	said, err := command.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.keep(command, syscall.CLONE_NEWNET|syscall.CLONE_NEWNS|syscall.CLONE_NEWUTS|syscall.CLONE_NEWPID)
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil || line != "ready\n" {
		p.t.Fatalf("start the phone: %s: %v", strings.TrimSpace(line), err)
	}
	return command
}

// namespaces returns a process that does nothing in new namespaces.
func (p *Phone) namespaces(flags uintptr) *exec.Cmd {
	p.t.Helper()
	command := exec.Command("cat")
	command.SysProcAttr = &syscall.SysProcAttr{}
	p.keep(command, flags)
	return command
}

// keep starts a command in new namespaces. It ends with the test, and with its standard input, so
// with this program.
func (p *Phone) keep(command *exec.Cmd, namespaces uintptr) {
	p.t.Helper()
	command.SysProcAttr.Cloneflags = namespaces
	hold, err := command.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		p.t.Fatalf("start a process in separate namespaces: %v", err)
	}
	p.t.Cleanup(func() {
		hold.Close()
		command.Process.Kill() // killing a namespace's first process kills the whole namespace
		command.Wait()
	})
}

func (p *Phone) path(name string) string { return filepath.Join(p.dir, name) }

func (p *Phone) write(name, text string, mode os.FileMode) {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), []byte(text), mode); err != nil {
		p.t.Fatal(err)
	}
}

func (p *Phone) copy(from, to string) {
	p.t.Helper()
	src, err := os.Open(from)
	if err != nil {
		p.t.Fatal(err)
	}
	defer src.Close()
	if err := os.MkdirAll(filepath.Dir(p.path(to)), 0o755); err != nil {
		p.t.Fatal(err)
	}
	dst, err := os.OpenFile(p.path(to), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := io.Copy(dst, src); err != nil {
		p.t.Fatal(err)
	}
	if err := dst.Close(); err != nil {
		p.t.Fatal(err)
	}
}

// SetProp sets an Android property.
func (p *Phone) SetProp(name, value string) {
	p.t.Helper()
	p.write("props/"+name, value+"\n", 0o644)
}

// Calls returns the recorded calls of an Android program, each as a line of arguments.
func (p *Phone) Calls(program string) []string {
	p.t.Helper()
	text, err := os.ReadFile(p.path("calls/" + program))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// File returns the computer's path of a file in the phone's /data.
func (p *Phone) File(path string) string {
	p.t.Helper()
	below, ok := strings.CutPrefix(path, "/data/")
	if !ok {
		p.t.Fatalf("%s is not below /data", path)
	}
	if p.limited {
		return filepath.Join("/proc", strconv.Itoa(p.phone.Process.Pid), "root", path)
	}
	return p.path("data/" + below)
}

// LimitDisk moves /data/sovereign to a new file system of that many bytes. Paths that File returned
// before are then stale.
func (p *Phone) LimitDisk(bytes int64) {
	p.t.Helper()
	p.Shell(fmt.Sprintf(`mkdir /tmp/disk; mount -t tmpfs -o size=%d,mode=755 tmpfs /tmp/disk
		cp -a /data/sovereign/. /tmp/disk/; mount --move /tmp/disk /data/sovereign; rmdir /tmp/disk`, bytes))
	p.limited = true
}

// Install copies an artifact's folder to slot a of a machine, and makes that slot the current one.
func (p *Phone) Install(artifact, name string) phonepath.VM {
	p.t.Helper()
	vm, err := phonepath.Default.VM(name)
	if err != nil {
		p.t.Fatal(err)
	}
	slot := p.File(vm.Slot("a"))
	if err := os.MkdirAll(slot, 0o755); err != nil {
		p.t.Fatal(err)
	}
	if out, err := exec.Command("cp", "--sparse=always", "--recursive", artifact+"/.", slot).CombinedOutput(); err != nil {
		p.t.Fatalf("install %s: %v: %s", artifact, err, out)
	}
	if err := os.Symlink(phonepath.SlotLink("a"), p.File(vm.Current())); err != nil {
		p.t.Fatal(err)
	}
	return vm
}

// InstallLight installs a machine with a light guest as Install does. Its network is the sql
// recipe's, in the given routing mode, with the given changes.
func (p *Phone) InstallLight(name string, routing vmspec.Routing, s lightguest.Script, change ...func(*vmspec.Network)) phonepath.VM {
	p.t.Helper()
	dir := p.t.TempDir()
	LightArtifact(p.t, dir, name, routing, s, change...)
	return p.Install(dir, name)
}

// LightArtifact writes the artifact of a machine with a light guest to the folder dir.
func LightArtifact(t session.T, dir, name string, routing vmspec.Routing, s lightguest.Script, change ...func(*vmspec.Network)) {
	t.Helper()
	spec := &vmspec.Spec{Format: vmspec.Format, Name: name, Arch: runtime.GOARCH, Kernel: artifact.KernelFile, MemoryMiB: 64, CPUs: 1,
		Disks: []vmspec.Disk{{Role: vmspec.RoleRootfs, File: artifact.RootfsFile, ReadOnly: true}, {Role: vmspec.RoleConfig, ReadOnly: true}},
		Network: vmspec.Network{TAP: "vm_" + name, Host: netip.MustParsePrefix("192.168.100.1/24"), Guest: netip.MustParsePrefix("192.168.100.2/24"),
			MTU: 1500, Hostname: name, Routing: routing, DNS: []netip.Addr{netip.MustParseAddr(ServerIP)}},
		Ports: []vmspec.Port{{Service: guestspec.ServicePostgres, Port: lightguest.PostgresPort}},
		Ready: vmspec.Ready{Port: vmspec.StatusPort, TimeoutSeconds: 30}}
	for _, f := range change {
		f(&spec.Network)
	}
	image, tree, parameters := sealtest.Image(t, make([]byte, 3*verity.BlockSize))
	spec.Parameters = parameters
	text, err := spec.Encode()
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	m := &manifest.Manifest{Format: manifest.Format, Name: name, Version: "1", Arch: runtime.GOARCH, Verity: tree}
	for _, f := range []struct {
		name    string
		content []byte
	}{{artifact.KernelFile, kernel}, {artifact.RootfsFile, image}, {artifact.SpecFile, text}} {
		m.Files = append(m.Files, manifest.Describe(f.name, f.content))
		if err := os.WriteFile(filepath.Join(dir, f.name), f.content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text, err = m.Encode(); err == nil {
		err = os.WriteFile(filepath.Join(dir, artifact.ManifestFile), text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Script replaces the script of a light machine's guest, from the guest's next start on.
func (p *Phone) Script(vm phonepath.VM, s lightguest.Script) {
	p.t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		p.t.Fatal(err)
	}
	p.Alter(vm, artifact.KernelFile, text)
}

// Alter replaces a file of the version in slot a and updates its manifest, as if the version had
// been installed with this file.
func (p *Phone) Alter(vm phonepath.VM, name string, content []byte) {
	p.t.Helper()
	slot := vm.Slot("a")
	m, err := manifest.Load(p.File(slot))
	if err != nil {
		p.t.Fatal(err)
	}
	for i, f := range m.Files {
		if f.Name == name {
			m.Files[i] = manifest.Describe(name, content)
		}
	}
	text, err := m.Encode()
	if err != nil {
		p.t.Fatal(err)
	}
	p.put(slot+"/"+name, content)
	p.put(slot+"/"+artifact.ManifestFile, text)
}

// put writes a file in the phone's /data.
func (p *Phone) put(path string, content []byte) {
	p.t.Helper()
	if err := os.WriteFile(p.File(path), content, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// Command returns a command that runs as root in the phone, like a root shell's: it is in no
// service's control group.
func (p *Phone) Command(ctx context.Context, argv ...string) *exec.Cmd {
	command := enter(ctx, p.phone.Process.Pid, []string{"--mount", "--net", "--uts", "--pid", "--cgroup", "--root", "--wd"}, argv)
	command.Env = append(slices.Clone(environment), "IPTABLES=/system/bin/iptables", "IP6TABLES=/system/bin/ip6tables")
	command.SysProcAttr = p.cgroup.attributes()
	return command
}

// Shell runs a script in the phone with Debian's programs, and returns its standard output. It
// fails the test if the script fails. It serves tests that change a phone; Su and Ash run scripts
// as a phone's own shells do.
func (p *Phone) Shell(script string) string {
	p.t.Helper()
	command := p.Command(p.t.Context(), "/usr/bin/sh", "-euc", script)
	command.Env = append(command.Env, "PATH=/usr/sbin:/usr/bin:/system/bin", "HOME=/", "LANG=C")
	return p.output(command, script)
}

// InternetShell runs a script in the internet's network, with the computer's files.
func (p *Phone) InternetShell(script string) string {
	p.t.Helper()
	return p.output(p.ServerCommand(p.t.Context(), "/bin/sh", "-euc", script), script)
}

func (p *Phone) output(command *exec.Cmd, what string) string {
	p.t.Helper()
	var out, said bytes.Buffer
	command.Stdout, command.Stderr = &out, &said
	if err := command.Run(); err != nil {
		p.t.Fatalf("%s: %v: %s%s", what, err, out.String(), said.String())
	}
	return out.String()
}

// PID returns the process ID of the phone's first process, in the computer's numbering.
func (p *Phone) PID() int { return p.phone.Process.Pid }

// InNetwork runs do in the phone's network, on a separate thread.
func (p *Phone) InNetwork(do func() error) error { return netd.InNetwork(p.phone.Process.Pid, do) }

// EnterNetwork moves the calling thread into the phone's network.
func (p *Phone) EnterNetwork() error { return netd.EnterNetwork(p.phone.Process.Pid) }

// Dial connects from the phone's network. It fits pgconn.Config.DialFunc.
func (p *Phone) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = p.InNetwork(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// DialFromInternet connects from the internet's server.
func (p *Phone) DialFromInternet(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = netd.InNetwork(p.internet.Process.Pid, func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// ServeUDP answers every datagram to a UDP port of the internet's server with the sender's address,
// and then calls got.
func (p *Phone) ServeUDP(port int, got func(from net.Addr)) {
	p.t.Helper()
	var conn net.PacketConn
	err := netd.InNetwork(p.internet.Process.Pid, func() (err error) {
		conn, err = net.ListenPacket("udp", net.JoinHostPort(ServerIP, strconv.Itoa(port)))
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	go func() {
		packet := make([]byte, 1500)
		for {
			_, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			conn.WriteTo([]byte(from.String()+"\n"), from)
			got(from)
		}
	}()
}

// Serve listens on a TCP port of the internet's server. It calls handle for each connection, and
// then closes the connection.
func (p *Phone) Serve(port int, handle func(net.Conn)) {
	p.t.Helper()
	var listener net.Listener
	err := netd.InNetwork(p.internet.Process.Pid, func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(ServerIP, strconv.Itoa(port)))
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
}

// eventualLimit bounds a wait for an event that takes seconds, on a busy computer.
const eventualLimit = 10 * time.Minute

// Eventually waits until a condition holds. It fails the test after eventualLimit.
func (p *Phone) Eventually(what string, holds func() bool) {
	p.t.Helper()
	if !await.Until(eventualLimit, 20*time.Millisecond, holds) {
		p.t.Fatalf("after %v: not %s", eventualLimit, what)
	}
}
