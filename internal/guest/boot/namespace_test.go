//go:build linux

package boot

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/testkit/childtest"
	"github.com/sovereign-sql/sov/internal/testkit/mounttest"
)

// The tests of this file and its neighbours run the real sov-init as PID 1 of new PID, mount,
// network, UTS, IPC and cgroup namespaces: reboot(2) ends the namespace there as it ends a
// machine. Its root holds this computer's programs, and a data disk on a loop device.

const (
	token        = "0123456789abcdef0123456789abcdef"
	guestAddress = "192.168.100.2"
	// patience bounds every wait for something that should happen within moments, on a computer
	// that has other things to do.
	patience = 5 * time.Minute

	stageVariable = "SOV_TEST_ROOT" // tells the test's program that it is a container's first process
	loopVariable  = "SOV_TEST_LOOP" // names in /dev, and loop devices: "vdb=/dev/loop0"
	usrVariable   = "SOV_TEST_USR"
	// Set where the kernel is to answer as one without netfilter.
	noNetfilterVariable = "SOV_TEST_NO_NETFILTER"
)

func TestMain(m *testing.M) {
	if root := os.Getenv(stageVariable); root != "" {
		err := becomeInit(root, os.Getenv(loopVariable))
		fmt.Fprintln(os.Stderr, "container:", err)
		os.Exit(1)
	}
	code := m.Run()
	if program.dir != "" {
		os.RemoveAll(program.dir)
	}
	os.Exit(code)
}

// becomeInit turns this process, alone in its namespaces, into the init of root.
func becomeInit(root, loop string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	usr := cmp.Or(os.Getenv(usrVariable), "/usr")
	if err := unix.Mount(usr, filepath.Join(root, "usr"), "", unix.MS_BIND, ""); err != nil {
		return err
	}
	dev := filepath.Join(root, "dev")
	if err := unix.Mount("tmpfs", dev, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		if err := unix.Mknod(filepath.Join(dev, name), unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			return err
		}
		if err := os.Chmod(filepath.Join(dev, name), 0o666); err != nil {
			return err
		}
	}
	ptmx := filepath.Join(dev, "ptmx")
	if err := unix.Mknod(ptmx, unix.S_IFCHR|0o666, int(unix.Mkdev(5, 2))); err != nil {
		return err
	}
	tun := filepath.Join(dev, "net/tun")
	if err := os.Mkdir(filepath.Dir(tun), 0o755); err != nil {
		return err
	}
	if err := unix.Mknod(tun, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))); err != nil {
		return err
	}
	for _, device := range strings.Fields(loop) {
		name, path, _ := strings.Cut(device, "=")
		var s unix.Stat_t
		if err := unix.Stat(path, &s); err != nil {
			return err
		}
		if err := unix.Mknod(filepath.Join(dev, name), unix.S_IFBLK|0o600, int(s.Rdev)); err != nil {
			return err
		}
	}
	if disk, err := os.ReadFile(filepath.Join(root, "config.img")); err == nil {
		if err := os.WriteFile(filepath.Join(dev, "vdc"), disk, 0o600); err != nil {
			return err
		}
	}
	if err := keepSysctls(filepath.Join(root, "proc")); err != nil {
		return err
	}
	// A pair of interfaces; the guest is told to take the one with the unusual name.
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "enp7s0"}, PeerName: "peer"}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, filepath.Join(root, "mnt")); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/mnt", unix.MNT_DETACH); err != nil {
		return err
	}
	// The parent of the tests may have left descriptors open; a kernel does not.
	if err := unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return err
	}
	// The clock is this computer's and stays as it is.
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_TIME, 0, 0, 0); err != nil {
		return err
	}
	if os.Getenv(noNetfilterVariable) != "" {
		if err := denyNetfilter(); err != nil {
			return err
		}
	}
	return syscall.Exec("/init/sov-init", []string{"/init/sov-init"}, nil)
}

// denyNetfilter lets this thread, and what it becomes, open no socket to netfilter.
func denyNetfilter() error {
	runtime.LockOSThread()
	// Offsets of struct seccomp_data: 0 is the call, 16 its first argument, 32 its third.
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 4}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_SOCKET, SkipTrue: 5},
		bpf.LoadAbsolute{Off: 16, Size: 4}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.AF_NETLINK, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 32, Size: 4}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.NETLINK_NETFILTER, SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT)}, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
	})
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})), 0, 0)
}

// keepSysctls mounts a /proc in which the settings that are this computer's own are files.
func keepSysctls(proc string) error {
	if err := unix.Mount("proc", proc, "proc", 0, ""); err != nil {
		return err
	}
	files, err := os.MkdirTemp("/tmp", "sysctl") // in the guest's own mount namespace
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", files, "tmpfs", 0, ""); err != nil {
		return err
	}
	for _, s := range sysctls {
		found := sysctlFiles(s.name)
		if len(found) == 0 || strings.HasPrefix(s.name, "net.") {
			continue
		}
		target := filepath.Join(proc, strings.TrimPrefix(found[0], "/proc"))
		file := filepath.Join(files, s.name)
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			return err
		}
		if err := unix.Mount(file, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	if err := unix.Unmount(files, unix.MNT_DETACH); err != nil {
		return err
	}
	return os.Remove(files)
}

// program is sov-init as it is built for an image, made once for all tests.
var program struct {
	once sync.Once
	dir  string
	err  error
}

func buildInit(t *testing.T) string {
	t.Helper()
	program.once.Do(func() {
		if program.dir, program.err = os.MkdirTemp("", "sov-init"); program.err != nil {
			return
		}
		args := []string{"build", "-o", filepath.Join(program.dir, "sov-init")}
		env := append(os.Environ(), "CGO_ENABLED=0")
		if raceEnabled {
			args, env = append(args, "-race"), append(os.Environ(), "CGO_ENABLED=1")
		}
		cmd := exec.Command("go", append(args, "../../../cmd/sov-init")...)
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			program.err = fmt.Errorf("build sov-init: %w\n%s", err, out)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return filepath.Join(program.dir, "sov-init")
}

// A box is a guest in namespaces: a root folder and a data disk, which outlive its boots.
type box struct {
	root, data string
	spec       guestspec.Config
	config     configdisk.Config
	noData     bool
	volumes    []string // images that are attached, by the names of their loop devices
	usr        string   // what is its /usr; empty: this computer's
	// noNetfilter has the kernel answer as one without it.
	noNetfilter bool
}

// newBox makes a guest with these services.
func newBox(t *testing.T, services ...guestspec.Service) *box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces and loop devices need root")
	}
	dir := t.TempDir()
	b := &box{root: filepath.Join(dir, "root"), data: filepath.Join(dir, "data.img")}
	for _, d := range []string{"proc", "sys", "dev", "run", "tmp", "data", "usr", "mnt", "init", "etc/sov/services"} {
		must(t, os.MkdirAll(filepath.Join(b.root, d), 0o755))
	}
	// t.TempDir is only root's; the guest's other users need to pass through its root.
	must(t, os.Chmod(b.root, 0o755))
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		if target, err := os.Readlink("/" + link); err == nil {
			must(t, os.Symlink(target, filepath.Join(b.root, link)))
		} else if _, err := os.Stat("/" + link); err == nil {
			t.Skipf("/%s is not a link into /usr on this computer", link)
		}
	}
	b.write(t, "etc/passwd", "root:x:0:0::/root:/bin/sh\npostgres:x:70:70::/data/postgres:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
	b.write(t, "etc/group", "root:x:0:\npostgres:x:70:\nnogroup:x:65534:\n")
	init, err := os.ReadFile(buildInit(t))
	must(t, err)
	b.write(t, "init/sov-init", string(init))
	must(t, os.Chmod(filepath.Join(b.root, "init/sov-init"), 0o755))
	must(t, datadisk.Create(context.Background(), b.data, 512<<20))
	b.spec = guestspec.Config{
		Format: guestspec.Format, Image: guestspec.Image{Name: "box", Version: "1"}, Hostname: "box",
		Network: guestspec.Network{Interface: "enp7s0"}, Services: services,
	}
	// The time is past when it is read: the clock is this computer's and stays as it is.
	b.config = configdisk.Config{
		Hostname: "sovereign-sql",
		Network: configdisk.Network{
			Address: netip.MustParsePrefix(guestAddress + "/24"), Gateway: netip.MustParseAddr("192.168.100.1"),
			DNS: []netip.Addr{netip.MustParseAddr("9.9.9.9")}, MTU: 1400,
		},
		Token: token,
	}
	return b
}

// write makes a file in the guest's root.
func (b *box) write(t *testing.T, name, content string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(b.root, name), []byte(content), 0o644))
}

// A boot is one life of a box.
type boot struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{} // closed when PID 1 has ended; cmd.ProcessState is valid then

	mu  sync.Mutex
	log bytes.Buffer
	new chan struct{} // closed and replaced when log grows
}

// boot starts the guest.
func (b *box) boot(t *testing.T) *boot {
	t.Helper()
	spec, err := json.Marshal(b.spec)
	must(t, err)
	if b.spec.Format != 0 {
		b.write(t, "etc/sov/guest.json", string(spec))
	}
	b.config.Time = time.Now()
	disk, err := configdisk.Encode(b.config)
	must(t, err)
	b.write(t, "config.img", string(disk))
	v := &boot{t: t, done: make(chan struct{}), new: make(chan struct{})}
	v.cmd = exec.Command("/proc/self/exe")
	v.cmd.Env = []string{stageVariable + "=" + b.root, usrVariable + "=" + b.usr}
	var devices []string
	if !b.noData {
		device, _ := mounttest.Attach(t, b.data, false)
		devices = append(devices, "vdb="+device)
	}
	for _, image := range b.volumes {
		device, _ := mounttest.Attach(t, image, false)
		devices = append(devices, filepath.Base(device)+"="+device)
	}
	v.cmd.Env = append(v.cmd.Env, loopVariable+"="+strings.Join(devices, " "))
	if b.noNetfilter {
		v.cmd.Env = append(v.cmd.Env, noNetfilterVariable+"=yes")
	}
	v.cmd.Stdout, v.cmd.Stderr = v, v
	group := newTestCgroup(t)
	v.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP,
	}
	if group != nil {
		v.cmd.SysProcAttr.UseCgroupFD, v.cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	}
	must(t, childtest.Start(v.cmd, nil))
	go func() {
		v.cmd.Wait()
		close(v.done)
	}()
	t.Cleanup(func() {
		v.cmd.Process.Kill()
		<-v.done
		if strings.Contains(v.text(), "DATA RACE") {
			t.Error("the race detector found something in sov-init")
		}
		if t.Failed() {
			t.Logf("console:\n%s", v.text())
		}
	})
	return v
}

// newTestCgroup makes a cgroup that becomes the root of the guest's, or returns nil where this
// computer has none of version 2.
func newTestCgroup(t *testing.T) *os.File {
	t.Helper()
	mnt := t.TempDir()
	if err := unix.Mount("cgroup2", mnt, "cgroup2", 0, ""); err != nil {
		t.Logf("without cgroups: %v", err)
		return nil
	}
	path := filepath.Join(mnt, fmt.Sprintf("sov-test-%d-%d", os.Getpid(), time.Now().UnixNano()))
	must(t, os.Mkdir(path, 0o755))
	dir, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() {
		dir.Close()
		inner, _ := filepath.Glob(filepath.Join(path, "*/"))
		for _, d := range inner {
			os.Remove(d)
		}
		os.Remove(path)
		unix.Unmount(mnt, 0)
	})
	return dir
}

// Write takes what the guest's console shows.
func (v *boot) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.log.Write(p)
	close(v.new)
	v.new = make(chan struct{})
	return len(p), nil
}

func (v *boot) text() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.log.String()
}

// waitLine waits until the console shows text.
func (v *boot) waitLine(text string) {
	v.t.Helper()
	timeout := time.After(patience)
	for {
		v.mu.Lock()
		grown := v.new
		found := strings.Contains(v.log.String(), text)
		v.mu.Unlock()
		if found {
			return
		}
		select {
		case <-grown:
		case <-v.done:
			if !strings.Contains(v.text(), text) {
				v.t.Fatalf("the guest ended without a line with %q", text)
			}
		case <-timeout:
			v.t.Fatalf("no line with %q within %s", text, patience)
		}
	}
}

// waitReady waits until all services are ready.
func (v *boot) waitReady() {
	v.t.Helper()
	v.waitLine(" info init: ready services=")
}

// pid is PID 1 as this computer numbers it.
func (v *boot) pid() int { return v.cmd.Process.Pid }

// wantPowerOff waits for the end and fails unless the machine was switched off: reboot(2) in a
// PID namespace ends its init with SIGINT for that.
func (v *boot) wantPowerOff() {
	v.t.Helper()
	v.wantEnd(syscall.SIGINT)
}

func (v *boot) wantEnd(s syscall.Signal) {
	v.t.Helper()
	select {
	case <-v.done:
	case <-time.After(patience):
		v.t.Fatalf("the guest still runs after %s", patience)
	}
	status := v.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != s {
		v.t.Fatalf("PID 1 ended with %s, want %s", v.cmd.ProcessState, s)
	}
}

// dial connects from inside the guest's network.
func (v *boot) dial(ctx context.Context, network, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	c := make(chan result)
	go func() {
		// The thread is not unlocked: it ends with the goroutine, and nothing else ever runs in
		// the other namespace.
		runtime.LockOSThread()
		conn, err := func() (net.Conn, error) {
			ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", v.pid()))
			if err != nil {
				return nil, err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return nil, err
			}
			return (&net.Dialer{Timeout: patience}).DialContext(ctx, network, address)
		}()
		c <- result{conn, err}
	}()
	r := <-c
	return r.conn, r.err
}

// request asks the endpoint.
func (v *boot) request(method, path, bearer string, body io.Reader) (int, []byte, error) {
	req, err := http.NewRequest(method, "http://"+net.JoinHostPort(guestAddress, strconv.Itoa(guestspec.EndpointPort))+path, body)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: v.dial, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// status asks how the guest is.
func (v *boot) status() guestapi.Status {
	v.t.Helper()
	v.waitLine("endpoint listens")
	code, body, err := v.request(http.MethodGet, guestapi.PathStatus, token, nil)
	if err != nil || code != http.StatusOK {
		v.t.Fatalf("status: %d %q %v", code, body, err)
	}
	var s guestapi.Status
	must(v.t, json.Unmarshal(body, &s))
	return s
}

// service is one service's status.
func (v *boot) service(name string) guestapi.Service {
	v.t.Helper()
	for _, s := range v.status().Services {
		if s.Name == name {
			return s
		}
	}
	v.t.Fatalf("the status has no service %s", name)
	return guestapi.Service{}
}

// waitService asks until the named service is as wanted.
func (v *boot) waitService(name, what string, wanted func(guestapi.Service) bool) guestapi.Service {
	v.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		s := v.service(name)
		if wanted(s) {
			return s
		}
		if time.Now().After(deadline) {
			v.t.Fatalf("service %s is not %s within %s: %+v", name, what, patience, s)
		}
	}
}

// run executes a command inside the guest.
func (v *boot) run(argv ...string) (string, error) {
	args := append([]string{"--target", strconv.Itoa(v.pid()), "--pid", "--mount", "--net", "--uts", "--ipc", "--root", "--wdns=/"}, argv...)
	out, err := exec.Command("nsenter", args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// shutDown ends the guest in order.
func (v *boot) shutDown() {
	v.t.Helper()
	code, body, err := v.request(http.MethodPost, guestapi.PathShutdown, token, nil)
	if err != nil || code != http.StatusAccepted {
		v.t.Fatalf("shutdown: %d %q %v", code, body, err)
	}
	v.wantPowerOff()
}

// wantCleanDisk fails unless e2fsck finds the data disk whole and its journal empty.
func (b *box) wantCleanDisk(t *testing.T) {
	t.Helper()
	out, err := exec.Command("e2fsck", "-fn", b.data).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("skipping journal")) {
		t.Errorf("e2fsck -fn: %v\n%s", err, out)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
