//go:build linux

package boot

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// TestServicesHaveTheLeastRights verifies that hostile services, as root and as another user,
// cannot do what no service needs.
func TestServicesHaveTheLeastRights(t *testing.T) {
	victim := sleeper("victim")
	victim.User = "nobody"
	victim.Directories = []guestspec.Directory{{Path: "/data/victim", Mode: "0755", User: "nobody"}, {Path: "/run/victim", Mode: "0755", User: "nobody"}}
	victim.Prepare = []guestspec.Step{{Command: []string{"/bin/sh", "-c", "echo precious >/data/victim/file"}}}
	// The script runs each argument as a command.
	script := `for what in "$@"; do if out=$(eval "$what" 2>&1); then echo "did: $what: $out"; else echo "failed: $what"; fi; done; echo tried; exec sleep 1000`
	attacks := []string{
		"mount -t tmpfs tmpfs /tmp",
		"cat /data/victim/file",
		"touch /data/file", "touch /run/file", "touch /run/victim/file", "touch /file",
		"echo 1 >/proc/sys/vm/drop_caches", "echo h >/proc/sysrq-trigger", "echo 1 >/proc/sys/net/ipv4/ip_forward",
		"dd if=/dev/vdb of=/dev/null count=1", "mknod /tmp/disk b 7 0", "cat /dev/net/tun",
		"kill -TERM 1", "kill -0 VICTIM", "test -e /proc/VICTIM",
		"nsenter -t 1 -m true", "unshare -m true", "chroot / true",
		`python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)'`,
		`python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(16, VICTIM, 0, 0) != 0)'`,
		"date -s 2001-01-01", "hostname other",
	}
	may := []string{"touch /data/own/file", "touch /tmp/file", "touch /dev/shm/file", "echo >/dev/null", "test -e /proc/self/stat"}
	capable := `python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)'`
	for _, user := range []string{"root", "postgres"} {
		t.Run(user, func(t *testing.T) {
			hostile := guestspec.Service{
				Name: "hostile", User: user, After: []string{"victim"}, Command: []string{"/bin/sh", "-c", "true"},
				Directories: []guestspec.Directory{{Path: "/data/own", Mode: "0700", User: user}},
			}
			// The victim writes its process ID to a file.
			victim := victim
			victim.Command = []string{"/bin/sh", "-c", "echo $$ >/run/victim/pid; while :; do sleep 1; done"}
			victim.Ready.Command = []string{"/usr/bin/test", "-s", "/run/victim/pid"}
			hostile.Command = append([]string{"/bin/sh", "-c", "VICTIM=$(cat /run/victim/pid); " + strings.ReplaceAll(script, "eval \"$what\"", "eval \"$(echo \"$what\" | sed s/VICTIM/$VICTIM/)\""), "sh"}, append(attacks, may...)...)
			strong := guestspec.Service{
				Name: "strong", User: user, Command: []string{"/bin/sh", "-c", capable + " && echo raw; cat /proc/self/status | grep -E 'Cap|NoNew|Seccomp:'; exec sleep 1000"},
				Rights: guestspec.Rights{Capabilities: []string{"net_raw"}, Devices: []string{"/dev/net/tun"}}, Limits: guestspec.Limits{Files: 77, Rlimits: map[string]int64{"fsize": 1 << 30}},
			}
			program := guestspec.Service{Name: "program", User: user, After: []string{"hostile"},
				Command: []string{"/bin/sh", "-c", "/init/attack all $(cat /run/victim/pid); echo tried; exec sleep 1000"}}
			b := newBox(t, victim, hostile, strong, program)
			build := exec.Command("go", "build", "-o", filepath.Join(b.root, "init/attack"), "../../testkit/hostile")
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			v := b.boot(t)
			v.waitReady()
			v.waitLine("out hostile: tried")
			log := v.text()
			for _, what := range attacks {
				if !strings.Contains(log, "out hostile: failed: "+what) {
					t.Errorf("a service run by %s may: %s", user, what)
				}
			}
			for _, what := range may {
				if !strings.Contains(log, "out hostile: did: "+what) {
					t.Errorf("a service run by %s may not: %s", user, what)
				}
			}
			v.waitLine("out program: tried")
			for line := range strings.Lines(v.text()) {
				if _, what, ours := strings.Cut(line, "out program: "); ours && strings.HasSuffix(what, "\t<nil>\n") {
					t.Errorf("a service run by %s may: %s", user, what)
				}
			}
			v.waitLine("out strong: raw")
			v.waitLine("out strong: CapEff:\t" + fmt.Sprintf("%016x", 1<<13))
			v.waitLine("out strong: CapBnd:\t" + fmt.Sprintf("%016x", 1<<13))
			v.waitLine("out strong: NoNewPrivs:\t1")
			v.waitLine("out strong: Seccomp:\t2")
			limits, err := v.run("/bin/sh", "-c", "grep 'open files' /proc/"+strconv.Itoa(v.service("strong").PID)+"/limits")
			if err != nil || len(strings.Fields(limits)) < 5 || strings.Fields(limits)[3] != "77" {
				t.Errorf("limits: %q, %v", limits, err)
			}
			if size, err := v.run("/bin/sh", "-c", "grep 'file size *1073741824 *1073741824' /proc/"+strconv.Itoa(v.service("strong").PID)+"/limits"); err != nil {
				t.Errorf("limits: %q, %v", size, err)
			}
			v.shutDown()
		})
	}
}
