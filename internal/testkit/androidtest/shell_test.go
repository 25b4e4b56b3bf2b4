package androidtest

import (
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
)

// TestSu checks how each su parses its arguments, and its exit statuses.
func TestSu(t *testing.T) {
	type row struct {
		words  []string
		out    string
		said   string // a substring of standard error
		status int
	}
	common := []row{
		{words: []string{"-c", "id -u"}, out: "0\n"},
		{words: []string{"-c", "echo 'a  b'"}, out: "a  b\n"},
		{words: []string{"-c", "echo", "a  b"}, out: "a b\n"},
		{words: []string{"-c", "echo", "a", "b"}, out: "a b\n"},
		{words: []string{"2000", "-c", "id -u"}, out: "2000\n"},
		{words: []string{"-c", "echo", "2000"}, out: "2000\n"},
		{words: []string{"-c", "exit 7"}, status: 7},
		{words: []string{"-c", "tail -n 1 /proc/self/cgroup"}, out: "0::/\n"},
		{words: []string{"-c", "(setsid sh -c 'echo far >&2' &)"}, said: "far"},
	}
	for kind, rows := range map[Superuser][]row{
		Magisk: append([]row{
			{words: []string{"0", "id", "-u"}}, // starts a shell with empty input
			{words: []string{"--nope"}, said: "unrecognized option", status: 2},
			{words: []string{"-mm", "-c", "id -u"}, out: "0\n"},
		}, common...),
		KernelSU: append([]row{
			{words: []string{"0", "id", "-u"}, out: "0\n"},
			{words: []string{"0", "printf", "%s|", "a  b", "c"}, out: "a  b|c|"},
			{words: []string{"--nope"}, out: "su: unrecognized option '--nope'\n", status: 255},
		}, common...),
		APatch: append([]row{
			{words: []string{"--no-pty", "-c", "id -u"}, out: "0\n"},
			{words: []string{"0", "id", "-u"}, out: "su: what this su makes of \"id\" after a user is not known\n", status: 255},
		}, common...),
		AOSP: {
			{words: []string{"0", "id", "-u"}, out: "0\n"},
			{words: []string{"root", "printf", "%s|", "a  b", "c"}, out: "a  b|c|"},
			{words: []string{"0", "sh", "-c", "exit 7"}, status: 7},
			{words: []string{"-c", "id"}, said: "su: invalid uid/gid '-c'", status: 1},
		},
		Denied:   {{words: []string{"-c", "id -u"}, said: "Permission denied", status: 13}},
		Unrooted: {{words: []string{"-c", "id -u"}, said: "su: inaccessible or not found", status: 127}},
	} {
		t.Run(string(kind), func(t *testing.T) {
			p := New(t, Options{Superuser: kind, InMemory: true})
			for _, r := range rows {
				out, said, status := p.Su(r.words...)
				if out != r.out || !strings.Contains(said, r.said) || r.said == "" && said != "" || status != r.status {
					t.Errorf("su %q: %q, %q, status %d; want %q, %q, status %d", r.words, out, said, status, r.out, r.said, r.status)
				}
			}
			if out, _, _ := p.Su("0", "tail", "-n", "1", "/proc/self/cgroup"); kind == AOSP && !strings.HasPrefix(out, "0::/uid_0/pid_") {
				t.Errorf("Android's own su left its caller's control group: %s", out)
			}
		})
	}
}

// TestShells checks that shells and module scripts have the programs of a real phone.
func TestShells(t *testing.T) {
	p := New(t, Options{InMemory: true})
	for script, want := range map[string]string{
		"echo $KSH_VERSION | grep -c MIRBSD":            "1",
		"[[ a = a ]] && echo yes":                       "yes",
		"command -v setpriv || echo none":               "none",
		"flock /data/local/tmp/x true 2>&1 | head -n 1": `flock: Max 1 argument (see "flock --help")`,
		"timeout 0.1 sleep 10; echo $?":                 "124",
		"readlink $(which ls)":                          "toybox",
		"ip rule help 2>&1 | grep -c uidrange":          "1",
		"command -v unzip busybox awk || echo none":     "none",
		"readlink /dev/net/tun; readlink /bin":          "../tun\n/system/bin",
	} {
		if out, said, _ := p.Su("-c", script); strings.TrimSpace(out) != want {
			t.Errorf("su: %s: %q, %q, want %q", script, out, said, want)
		}
	}
	for script, want := range map[string]string{
		"ip rule help 2>&1 | grep -c uidrange || true":       "0",
		"/system/bin/ip rule help 2>&1 | grep -c uidrange":   "1",
		"PATH=/system/bin; ls --help 2>&1 | grep -c BusyBox": "1",
		"type unzip": "unzip is unzip",
		"echo $ASH_STANDALONE $PATH | grep -c '/usr' || true": "0",
	} {
		if out := strings.TrimSpace(p.Ash(script)); out != want {
			t.Errorf("ash: %s: %q, want %q", script, out, want)
		}
	}
}

// TestProperties checks the properties by release, and the owner of wake_lock.
func TestProperties(t *testing.T) {
	for _, release := range []crosvmcli.Release{crosvmcli.Android13, crosvmcli.Android15QPR2} {
		p := New(t, Options{Build: DefaultBuild(release), InMemory: true})
		if got, _, _ := p.Su("-c", "getprop ro.build.version.release; getprop | grep -c '^\\[ro.boot.hypervisor.version\\]: \\[kvm.arm-protected\\]$'"); got != release.Version()+"\n1\n" {
			t.Errorf("properties: %q", got)
		}
		if got := p.Shell("stat -c '%a %u %g' /sys/power/wake_lock"); got != "660 1001 3010\n" {
			t.Errorf("wake_lock: %q", got)
		}
	}
}

// TestControlGroups checks that all processes of a service or of adbd are killed with it, except
// those that left its control group.
func TestControlGroups(t *testing.T) {
	s := NewADBServer(t)
	alive := func(p *Phone, name string) bool { return p.Shell("pgrep -f '"+name+"$' || true") != "" }
	for kind, survives := range map[Superuser]bool{Magisk: true, KernelSU: true, APatch: true, AOSP: false} {
		t.Run(string(kind), func(t *testing.T) {
			p := New(t, Options{Superuser: kind, InMemory: true})
			a := p.ServeADB(ADBOptions{})
			s.Connect(a)
			su := "su -c 'setsid sleep 3000 >/dev/null 2>&1 </dev/null &'"
			if kind == AOSP {
				su = "su 0 sh -c 'setsid sleep 3000 >/dev/null 2>&1 </dev/null &'"
			}
			s.Run("-s", a.Serial(), "shell", su)
			s.Run("-s", a.Serial(), "shell", "setsid sleep 4000 >/dev/null 2>&1 </dev/null &")
			p.Eventually("both run", func() bool { return alive(p, "sleep 3000") && alive(p, "sleep 4000") })
			a.RestartDaemon()
			p.Eventually("the shell's child is gone", func() bool { return !alive(p, "sleep 4000") })
			if got := alive(p, "sleep 3000"); got != survives {
				t.Errorf("what su started lives: %t, want %t", got, survives)
			}
			s.Connect(a)
		})
	}
	p := New(t, Options{InMemory: true})
	script := `setsid sleep 5000 & sh -c 'echo $$ >/sys/fs/cgroup/cgroup.procs; exec setsid sleep 6000' &
		while ! tail -n 1 /proc/$!/cgroup | grep -q ^0::/$; do sleep 0.01; done; tail -n 1 /proc/self/cgroup >/data/local/tmp/group`
	if err := p.RunService(t.Context(), shell, "-c", script); err != nil {
		t.Fatal(err)
	}
	if got := p.Shell("cat /data/local/tmp/group"); !strings.HasPrefix(got, "0::/uid_0/pid_") {
		t.Errorf("the service is in %s", got)
	}
	p.Eventually("the service's child is gone", func() bool { return !alive(p, "sleep 5000") })
	if !alive(p, "sleep 6000") {
		t.Error("what left the group was killed with it")
	}
}

// TestWakeLocks checks that a wake lock is held until it is released.
func TestWakeLocks(t *testing.T) {
	p := New(t, Options{InMemory: true})
	p.Su("-c", "echo one >/sys/power/wake_lock; echo two >/sys/power/wake_lock")
	p.Eventually("held", func() bool { return strings.Join(p.WakeLocks(), " ") == "one two" })
	p.Su("-c", "echo one >/sys/power/wake_unlock")
	p.Eventually("given back", func() bool { return strings.Join(p.WakeLocks(), " ") == "two" })
	p.SetBattery(3, "Discharging")
	if got := p.Shell("cd /sys/class/power_supply/battery; cat capacity status"); got != "3\nDischarging\n" {
		t.Errorf("battery: %q", got)
	}
}
