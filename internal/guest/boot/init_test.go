//go:build linux

package boot

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// shell returns a service that runs a script.
func shell(name, script string) guestspec.Service {
	return guestspec.Service{
		Name: name, Command: []string{"/bin/sh", "-c", script},
		Restart: guestspec.Restart{Backoff: guestspec.Duration(10 * time.Millisecond), MaxBackoff: guestspec.Duration(50 * time.Millisecond)},
		Stop:    guestspec.Stop{Timeout: guestspec.Duration(5 * time.Second)},
	}
}

// sleeper returns a service that runs until SIGTERM and then prints "bye".
func sleeper(name string) guestspec.Service {
	return shell(name, `trap 'echo bye; exit 0' TERM; echo "hello from $USER"; while :; do sleep 1 & wait; done`)
}

func TestMachineIsAsDescribed(t *testing.T) {
	s := sleeper("a")
	s.User, s.OOMScoreAdj = "nobody", 300
	s.Env = map[string]string{"COLOUR": "green"}
	s.Directories = []guestspec.Directory{{Path: "/run/a", Mode: "2770", User: "nobody"}}
	s.Tmpfs = []guestspec.Tmpfs{{Path: "/run/a/fast", Mode: "0700", User: "nobody", Size: "1048576"}}
	// A step creates the mount point of a tmpfs, as initdb creates pg_dynshmem.
	s.Prepare = []guestspec.Step{{Command: []string{"/bin/mkdir", "-p", "/run/a/fast"}}}
	b := newBox(t, s)
	v := b.boot(t)
	v.waitReady()
	pid := v.service("a").PID
	for _, tt := range []struct{ what, command, want string }{
		{"host name", "hostname", "sovereign-sql"},
		{"/dev/shm", "stat -fc %T /dev/shm; stat -c %a /dev/shm", "tmpfs\n1777"},
		{"/tmp", "stat -fc %T /tmp; stat -c %a /tmp", "tmpfs\n1777"},
		{"/run", "stat -fc %T /run", "tmpfs"},
		{"data disk", "grep ' /data ' /proc/mounts | cut -d' ' -f3,4", "ext4 rw,nosuid,nodev,noatime"},
		// /proc/mounts omits this option if the superblock has the same value.
		{"errors of the data disk", "grep ^errors= /proc/fs/ext4/$(basename $(readlink /sys/dev/block/$(mountpoint -d /data)))/options", "errors=remount-ro"},
		{"address", "ip -4 -o addr show dev enp7s0 | grep -o 'inet [^ ]*'", "inet 192.168.100.2/24"},
		{"mtu", "cat /sys/class/net/enp7s0/mtu", "1400"},
		{"loopback", "cat /sys/class/net/lo/flags", "0x9"},
		{"default route", "ip route show default | sed 's/ linkdown//'", "default via 192.168.100.1 dev enp7s0"}, // linkdown: the peer is not up
		{"DNS", "grep nameserver /run/resolv.conf", "nameserver 9.9.9.9"},
		{"directory", "stat -c '%a %U' /run/a", "2770 nobody"},
		{"tmpfs of the service", "stat -fc '%T %b' /run/a/fast; stat -c '%a %U' /run/a/fast", "tmpfs 256\n700 nobody"},
		{"user", "ps -o user=,group= -p 1,PID | tail -n1 | tr -s ' '", "nobody nogroup"},
		{"oom score", "cat /proc/PID/oom_score_adj; cat /proc/1/oom_score_adj", "300\n" + ownOOMScore(t)},
		{"environment", "tr '\\0' '\\n' < /proc/PID/environ | grep -c -e ^COLOUR=green$ -e ^USER=nobody$ -e ^PATH=/usr/local/sbin:", "3"},
		{"standard input", "readlink /proc/PID/fd/0", "/dev/null"},
		{"session", "ps -o sid= -p PID | tr -d ' '", "PID"},
		{"descriptors", "ls /proc/PID/fd | grep -cv -e '^[012]$' -e '^10$'", "0"}, // 10 is the shell's
	} {
		got, err := v.run("/bin/sh", "-c", strings.ReplaceAll(tt.command, "PID", strconv.Itoa(pid)))
		got = strings.TrimRight(strings.ReplaceAll(got, " \n", "\n"), " ")
		if got != strings.ReplaceAll(tt.want, "PID", strconv.Itoa(pid)) {
			t.Errorf("%s: %q (%v), want %q", tt.what, got, err, tt.want)
		}
	}
	for _, s := range sysctls {
		// The guest's interface exists before sov-init starts, as on a real machine.
		files := "/proc/sys/" + strings.ReplaceAll(s.name, ".", "/")
		if got, err := v.run("/bin/sh", "-c", "for f in "+files+"; do test ! -e $f || grep -Hvx "+s.value+" $f; done; true"); err != nil || got != "" {
			t.Errorf("%s is not %s in %q (%v)", s.name, s.value, got, err)
		}
	}
	status := v.status()
	if !status.Ready || status.Stopping || status.Version != "1" || status.BootID == "" || status.Data.Size == 0 || status.Memory.Total == 0 || status.Uptime <= 0 {
		t.Errorf("status: %+v", status)
	}
	if len(status.Problems) != 0 {
		t.Errorf("problems: %q", status.Problems)
	}
	v.shutDown()
	b.wantCleanDisk(t)
}

// ownOOMScore returns the expected score of PID 1, which protects itself if that is allowed
// (CAP_SYS_RESOURCE).
func ownOOMScore(t *testing.T) string {
	t.Helper()
	if exec.Command("/bin/sh", "-c", "echo -1000 >/proc/self/oom_score_adj").Run() != nil {
		return "0"
	}
	return "-1000"
}

func TestServicesStartAndStopInOrder(t *testing.T) {
	a, b, c := sleeper("a"), sleeper("b"), sleeper("c")
	// b is ready only once its file exists, and c starts after b.
	b.Ready.Command = []string{"/usr/bin/test", "-e", "/run/go"}
	b.After, c.After = []string{"a"}, []string{"b"}
	once := shell("once", "echo once")
	once.Restart.Policy = guestspec.Never
	c.After = append(c.After, "once")
	v := newBox(t, c, b, a, once).boot(t)
	v.waitLine("info b: started")
	v.waitLine("info once: done")
	if s := v.service("c"); s.State != guestapi.StateWaiting {
		t.Errorf("c is %s before b is ready", s.State)
	}
	if _, err := v.run("/usr/bin/touch", "/run/go"); err != nil {
		t.Fatal(err)
	}
	v.waitReady()
	for _, name := range []string{"a", "b", "c"} {
		v.waitLine("out " + name + ": hello") // its trap is set
	}
	v.shutDown()
	log := v.text()
	last := -1
	for _, line := range []string{
		"info a: started", "info a: ready", "info b: started", "info b: ready", "info c: started", "info c: ready",
		"init: shutting down reason=endpoint", "out c: bye", "info c: stopped", "out b: bye", "info b: stopped",
		"out a: bye", "info a: stopped", "data disk unmounted", "info init: power off",
	} {
		at := strings.Index(log, line)
		if at <= last {
			t.Errorf("%q is not after what should come before it", line)
		}
		last = at
	}
}

func TestTasksEndBeforeDependents(t *testing.T) {
	task := shell("task", "sleep 0.3; echo over")
	task.Restart.Policy = guestspec.Never
	next := sleeper("next")
	next.After = []string{"task"}
	v := newBox(t, task, next).boot(t)
	v.waitReady()
	log := v.text()
	if over, started := strings.Index(log, "info task: done"), strings.Index(log, "info next: started"); over < 0 || started < over {
		t.Error("next was started before the task that it comes after had ended")
	}
	v.shutDown()
	v = newBox(t, task).boot(t)
	v.waitReady() // ready with only a finished task
	v.shutDown()
}

func TestSignalsShutDown(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGPWR, syscall.SIGUSR2} {
		t.Run(unix.SignalName(s), func(t *testing.T) {
			b := newBox(t, sleeper("a"))
			v := b.boot(t)
			v.waitLine("out a: hello") // its trap is set
			v.waitReady()
			must(t, v.cmd.Process.Signal(s))
			v.wantPowerOff()
			v.waitLine("shutting down reason=" + unix.SignalName(s))
			v.waitLine("out a: bye")
			b.wantCleanDisk(t)
		})
	}
}

func TestOtherSignalsChangeNothing(t *testing.T) {
	v := newBox(t, sleeper("a")).boot(t)
	v.waitReady()
	for _, s := range harmlessSignals {
		must(t, v.cmd.Process.Signal(s))
	}
	if status := v.status(); !status.Ready {
		t.Errorf("status: %+v", status)
	}
	// A service does not inherit the signals that init ignores. It does inherit those that init's
	// parents ignore, such as this test's parents.
	pid := v.service("a").PID
	out, err := v.run("/bin/sh", "-c", fmt.Sprintf("grep SigIgn /proc/%d/status", pid))
	must(t, err)
	ignored, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(out, "SigIgn:")), 16, 64)
	must(t, err)
	for _, s := range harmlessSignals {
		if ignored&(1<<(s.(syscall.Signal)-1)) != 0 {
			t.Errorf("the service ignores %v: %s", s, out)
		}
	}
	v.shutDown()
}

func TestCrashingServicesRestart(t *testing.T) {
	crashing := shell("crashing", "echo last words; exit 3")
	crashing.Restart.Limit = 3
	hopeless := shell("hopeless", "echo the cluster is of another version >&2; exit 78")
	quitter := shell("quitter", "exit 0")
	quitter.Restart.Policy = guestspec.OnFailure
	v := newBox(t, sleeper("a"), crashing, hopeless, quitter).boot(t)
	looping := v.waitService("crashing", "crash-looping", func(s guestapi.Service) bool {
		return s.State == guestapi.StateLooping && s.Failures > 5
	})
	if !strings.Contains(looping.Reason, "exit status 3") || len(looping.LastOutput) == 0 || looping.LastOutput[0] != "last words" {
		t.Errorf("crashing: %+v", looping)
	}
	hopelessly := v.waitService("hopeless", "failed", func(s guestapi.Service) bool { return s.State == guestapi.StateFailed })
	if hopelessly.Reason != "the cluster is of another version" || hopelessly.Restarts != 0 {
		t.Errorf("hopeless: %+v", hopelessly)
	}
	v.waitService("quitter", "done", func(s guestapi.Service) bool { return s.State == guestapi.StateDone })
	before := v.waitService("a", "ready", func(s guestapi.Service) bool { return s.State == guestapi.StateReady })
	if before.Restarts != 0 {
		t.Errorf("a: %+v", before)
	}
	if out, err := v.run("/bin/kill", "-9", strconv.Itoa(before.PID)); err != nil {
		t.Fatal(out, err)
	}
	v.waitService("a", "back", func(s guestapi.Service) bool {
		return s.State == guestapi.StateReady && s.PID != before.PID && s.Restarts == 1
	})
	v.waitLine(`warn a: ended reason="/bin/sh: killed by SIGKILL"`)
	v.shutDown()
}

func TestDeadServiceIsCleanedUp(t *testing.T) {
	// The child leaves its session and process group, ignores signals and keeps the output open.
	daemon := shell("daemon", `setsid sh -c 'trap "" TERM; while :; do sleep 1; done' & sleep 0.1; exit 1`)
	daemon.Restart.Backoff = guestspec.Duration(time.Minute)
	daemon.Restart.MaxBackoff = guestspec.Duration(time.Minute)
	stubborn := shell("stubborn", `trap "" TERM; setsid sh -c 'trap "" TERM; while :; do sleep 1; done' & while :; do sleep 1; done`)
	stubborn.Stop.Timeout = guestspec.Duration(300 * time.Millisecond)
	v := newBox(t, daemon, stubborn).boot(t)
	v.waitService("daemon", "in back-off", func(s guestapi.Service) bool { return s.State == guestapi.StateBackoff })
	// Still running: PID 1, stubborn and its child, which may just have started, their sleeps, and
	// ps.
	eventually(t, "stubborn's two shells alone live", patience, func() error {
		out, err := v.run("/bin/sh", "-c", "ps -e -o args= | grep -c 'while :[;]'")
		if err == nil && out != "2" {
			err = fmt.Errorf("%s shells live", out)
		}
		return err
	})
	began := time.Now()
	v.shutDown()
	v.waitLine(`info stubborn: stopped end="killed by SIGKILL"`)
	if took := time.Since(began); took > 45*time.Second { // the shutdown must not wait for daemon's back-off
		t.Errorf("the shutdown took %s", took)
	}
}

// TestDayWithoutLeaks repeats a day's crashes, orphans, requests, disconnecting readers and
// unauthenticated requests within seconds. PID 1 must not use more memory or descriptors or keep
// more zombies than before.
func TestDayWithoutLeaks(t *testing.T) {
	orphans := shell("orphans", "for i in 1 2 3 4 5 6 7 8 9 10; do (sleep 0.01 & ) ; done; sleep 0.05; exit 1")
	orphans.Restart = guestspec.Restart{Backoff: guestspec.Duration(time.Millisecond), MaxBackoff: guestspec.Duration(time.Millisecond)}
	quick := shell("quick", "exit 1") // ends before its start is recorded
	quick.Restart = orphans.Restart
	v := newBox(t, sleeper("a"), orphans, quick).boot(t)
	descriptors := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", v.pid()))
		must(t, err)
		return len(entries)
	}
	v.waitService("orphans", "restarted", func(s guestapi.Service) bool { return s.Restarts >= 5 })
	before := descriptors()
	v.waitService("orphans", "restarted", func(s guestapi.Service) bool { return s.Restarts >= 40 })
	v.waitService("quick", "restarted", func(s guestapi.Service) bool { return s.Restarts >= 100 })
	memory := v.resident()
	for i := range 100 {
		for path, want := range map[string]int{"/status": 200, "/metrics": 200, "/logs?service=quick": 200, "/logs?lines=x": 400} {
			if code, _, err := v.request(http.MethodGet, path, token, nil); err != nil || code != want {
				t.Fatalf("request %d of %s: %d, %v", i, path, code, err)
			}
		}
		if code, _, err := v.request(http.MethodGet, "/status", "wrong", nil); err != nil || code != 401 && code != 429 {
			t.Fatalf("unauthenticated request %d: %d, %v", i, code, err)
		}
		v.followBriefly("/logs?follow=1")
	}
	if grown := v.resident() - memory; grown > 32<<20 {
		t.Errorf("process 1 grew by %d MiB", grown>>20)
	}
	// A start may be in progress and a connection open, which takes a few descriptors, not
	// hundreds. A follower's disconnect is noticed later.
	eventually(t, "descriptors are given back", patience, func() error {
		if after := descriptors(); after > before+12 {
			return fmt.Errorf("PID 1 has %d descriptors after many restarts, had %d", after, before)
		}
		return nil
	})
	if n := v.status().Orphans; n < 100 {
		t.Errorf("%d orphans were reaped, want at least 100", n)
	}
	// A zombie may be reaped soon. One that remains is a leak.
	stay := v.zombies()
	eventually(t, "zombies go", patience, func() error {
		now := v.zombies()
		stay = slices.DeleteFunc(stay, func(pid string) bool { return !slices.Contains(now, pid) })
		if len(stay) > 0 {
			return fmt.Errorf("processes %q stay zombies", stay)
		}
		return nil
	})
	v.shutDown()
}

// zombies returns the IDs of processes that were not reaped yet.
func (v *boot) zombies() (pids []string) {
	out, _ := v.run("/bin/ps", "-e", "-o", "stat=,pid=")
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 2 && strings.HasPrefix(f[0], "Z") {
			pids = append(pids, f[1])
		}
	}
	return pids
}

// resident returns the resident memory of PID 1, in bytes.
func (v *boot) resident() int64 {
	v.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", v.pid()))
	must(v.t, err)
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64) // proc(5): the second field is resident
	must(v.t, err)
	return pages * int64(os.Getpagesize())
}

// followBriefly reads one line of an endless response and disconnects.
func (v *boot) followBriefly(path string) {
	v.t.Helper()
	conn, err := v.dial(v.t.Context(), "tcp", net.JoinHostPort(guestAddress, strconv.Itoa(guestspec.EndpointPort)))
	must(v.t, err)
	defer conn.Close()
	must(v.t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: guest\r\nAuthorization: Bearer %s\r\n\r\n", path, token)
	must(v.t, err)
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "200") && !strings.Contains(line, "429") {
		v.t.Fatalf("%s: %q, %v", path, line, err)
	}
}

func TestSecretsReachOnlyTheirStep(t *testing.T) {
	const secret = "c4n4ry 'quoted' \"twice\"\nand é"
	s := sleeper("a")
	s.Rights.Write = []string{"/data"}
	s.PostReady = []guestspec.Step{
		{Command: []string{"/bin/sh", "-c", "cat > /data/got"}, Secret: "postgres"},
		{Command: []string{"/bin/false"}, Secret: "absent"},
		{Command: []string{"/bin/sh", "-c", "test -e /data/tried || { touch /data/tried; exit 1; }"}},
	}
	b := newBox(t, s)
	b.config.Secrets = map[string]string{"postgres": secret}
	v := b.boot(t)
	v.waitReady()
	got, err := v.run("/bin/cat", "/data/got")
	if err != nil || got != secret {
		t.Errorf("the step read %q, %v", got, err)
	}
	v.waitLine("warn a: a step after its start failed")
	v.waitLine("warn a: a step is skipped: its secret is not on the config disk secret=absent")
	out, err := v.run("/bin/sh", "-c", "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | grep -ac 'c4n4r[y]'")
	if out != "0" {
		t.Errorf("%s processes have the secret in their environment or arguments (%v)", out, err)
	}
	_, body, err := v.request(http.MethodGet, guestapi.PathStatus, token, nil)
	if err != nil || strings.Contains(string(body), "c4n4ry") || strings.Contains(v.text(), "c4n4ry") {
		t.Errorf("the secret is in the status or the log (%v)", err)
	}
	v.shutDown()
}

func TestEndpointOfARunningGuest(t *testing.T) {
	v := newBox(t, sleeper("a")).boot(t)
	v.waitReady()
	code, body, err := v.request(http.MethodGet, guestapi.PathStatus, strings.Repeat("x", len(token)), nil)
	if err != nil || code != http.StatusUnauthorized || strings.Contains(string(body), "services") {
		t.Errorf("with a wrong token: %d %q %v", code, body, err)
	}
	if conn, err := v.dial(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", guestspec.EndpointPort)); err == nil {
		conn.Close()
		t.Error("the endpoint listens on other addresses than the guest's own")
	}
	// The peer is not up, so that the link has no carrier.
	want := guestapi.Network{Interface: "enp7s0", Address: guestAddress + "/24", Gateway: "192.168.100.1"}
	if got := v.status().Network; got == nil || *got != want {
		t.Errorf("the guest's link is %+v, want %+v", got, want)
	}
	v.shutDown()
}

func TestNoDataDisk(t *testing.T) {
	b := newBox(t, sleeper("a"))
	b.noData = true
	b.spec.Data = guestspec.Data{Wait: guestspec.Duration(50 * time.Millisecond), Label: "no-such-label"}
	v := b.boot(t)
	v.waitLine("error init: data disk: no disk with the ext4 label")
	s := v.service("a")
	if s.State != guestapi.StateFailed || !strings.Contains(s.Reason, "is the data disk attached") {
		t.Errorf("a: %+v", s)
	}
	if status := v.status(); status.Data.Fault == "" || status.Ready {
		t.Errorf("status: %+v", status)
	}
	v.shutDown()
}

func TestDataDiskRepair(t *testing.T) {
	b := newBox(t, sleeper("a"))
	debugfs := func(command string) {
		t.Helper()
		if out, err := exec.Command("debugfs", "-w", "-R", command, b.data).CombinedOutput(); err != nil {
			t.Fatalf("debugfs: %v\n%s", err, out)
		}
	}
	// The free counts of a file system are often wrong after a power cut: -p corrects them.
	debugfs("set_super_value free_inodes_count 5")
	debugfs("set_super_value state 0")
	v := b.boot(t)
	v.waitReady()
	v.waitLine("warn init: e2fsck repaired the data disk")
	v.shutDown()
	// A root directory that is a file is not routine: a user must repair it.
	debugfs("set_inode_field <2> mode 0100644")
	debugfs("set_super_value state 2")
	before, err := os.ReadFile(b.data)
	must(t, err)
	v = b.boot(t)
	v.waitLine("it needs e2fsck by hand")
	if s := v.service("a"); s.State != guestapi.StateFailed {
		t.Errorf("a: %+v", s)
	}
	v.shutDown()
	after, err := os.ReadFile(b.data)
	must(t, err)
	// e2fsck -p records in the superblock that it found errors. Everything else must be unchanged.
	if string(before[2048:]) != string(after[2048:]) {
		t.Error("the broken disk was written to")
	}
}

func TestFatalErrors(t *testing.T) {
	b := newBox(t)
	b.spec.Format = 0
	b.write(t, "etc/sov/guest.json", `{"format":1,"hostname":"h","nonsense":1}`)
	v := b.boot(t)
	v.wantPowerOff()
	v.waitLine(`error init: cannot continue error="read /etc/sov/guest.json: json: unknown field \"nonsense\""`)
	v.waitLine("info init: power off")
	if strings.Contains(v.text(), "unmount") { // the machine has no data disk, and must not touch other mounts
		t.Error("something was to be unmounted")
	}
}

func TestDamagedConfigDisk(t *testing.T) {
	b := newBox(t, sleeper("a"))
	b.config.Secrets = map[string]string{"x": "c4n4ry"}
	v := b.boot(t)
	v.waitReady()
	v.shutDown()
	name := filepath.Join(b.root, "config.img")
	disk, err := os.ReadFile(name)
	must(t, err)
	// The next boot writes its own config disk. The spec names this one instead.
	disk[60] ^= 1
	b.write(t, "damaged.img", string(disk))
	b.spec.ConfigDisk = "/damaged.img"
	v = b.boot(t)
	v.waitLine("error init: config disk: damaged: its checksum does not match")
	v.waitReady() // without a network, but with its data
	must(t, v.cmd.Process.Signal(syscall.SIGTERM))
	v.wantPowerOff()
	if strings.Contains(v.text(), "c4n4ry") {
		t.Error("the secret is in the log")
	}
}

// TestNoFirewallNoServices verifies that a guest without netfilter in its kernel starts no
// services.
func TestNoFirewallNoServices(t *testing.T) {
	b := newBox(t, sleeper("a"))
	b.noNetfilter = true
	v := b.boot(t)
	v.waitLine("firewall")
	eventually(t, "its service fails", patience, func() error {
		if s := v.service("a"); s.State != guestapi.StateFailed || !strings.HasPrefix(s.Reason, "the firewall is not loaded") {
			return fmt.Errorf("service: %+v", s)
		}
		return nil
	})
	if status := v.status(); status.Ready {
		t.Errorf("ready without a firewall: %+v", status)
	}
	v.shutDown()
}

// TestFirewallBeforeNetwork runs a guest without netfilter whose gateway the kernel rejects. Its
// interface is then up with an address, and services must not be reachable there.
func TestFirewallBeforeNetwork(t *testing.T) {
	b := newBox(t, sleeper("a"))
	b.noNetfilter = true
	b.config.Network.Gateway = netip.MustParseAddr("192.168.100.255") // a broadcast address
	v := b.boot(t)
	v.waitLine("error init: network: configure enp7s0: add default route")
	v.waitLine("error init: firewall: ")
	must(t, v.cmd.Process.Signal(syscall.SIGTERM))
	v.wantPowerOff()
	if strings.Contains(v.text(), "hello") {
		t.Error("a service ran without a firewall")
	}
}
