package androidtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The phone's control groups are real ones of version 2: a group of the computer's is the root of
// the phone's hierarchy at /sys/fs/cgroup. Services and apps have a group each, uid_N/pid_N
// (system/core/libprocessgroup), which init kills whole when its first process ends
// (system/core/init/service.cpp, Service::Reap).

// groups counts groups of this process, to name them.
var groups atomic.Int64

// makeCgroup makes the phone's group, which goes with the test.
func (p *Phone) makeCgroup() {
	p.t.Helper()
	mount, err := cgroupMount()
	if err != nil {
		p.t.Fatal(err)
	}
	if mount == "" { // a computer that has none mounted
		mount = p.path("cgroup2")
		if err := errors.Join(os.Mkdir(mount, 0o755), unix.Mount("cgroup2", mount, "cgroup2", 0, "")); err != nil {
			p.t.Fatalf("mount control groups of version 2: %v", err)
		}
		p.t.Cleanup(func() { unix.Unmount(mount, unix.MNT_DETACH) })
	}
	dir := filepath.Join(mount, fmt.Sprintf("androidtest-%d-%d", os.Getpid(), groups.Add(1)))
	p.t.Cleanup(func() { removeGroups(dir) }) // runs after its processes were killed
	p.cgroup = p.openGroup(dir)
}

// cgroupMount is where the computer has its version 2 hierarchy as a whole, "" where nowhere.
func cgroupMount() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// proc(5): id parent device root mount options … - type source super
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if len(fields) > 4 && strings.HasPrefix(after, "cgroup2 ") && fields[3] == "/" && strings.HasPrefix(fields[4], "/sys/") {
			return fields[4], nil
		}
	}
	return "", lines.Err()
}

// removeGroups removes a group and those below it, from which the last processes may be on their
// way out.
func removeGroups(dir string) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		var dirs []string
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append([]string{path}, dirs...)
			}
			return nil
		})
		for _, d := range dirs {
			unix.Rmdir(d)
		}
		if _, err := os.Stat(dir); err != nil || time.Now().After(deadline) {
			return
		}
	}
}

// A group is one of the phone's control groups, opened for processes to be started in.
type group struct{ dir *os.File }

func (p *Phone) openGroup(dir string) *group {
	p.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatalf("make a control group: %v", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { f.Close() })
	return &group{f}
}

// newGroup makes the group of a service or an app.
func (p *Phone) newGroup(uid int) *group {
	p.t.Helper()
	return p.openGroup(filepath.Join(p.cgroup.dir.Name(), fmt.Sprintf("uid_%d/pid_%d", uid, groups.Add(1))))
}

// kill ends all that is in the group, as init does when a service has ended.
func (g *group) kill() error {
	return os.WriteFile(filepath.Join(g.dir.Name(), "cgroup.kill"), []byte("1"), 0)
}

// attributes are those of a command that starts in the group.
func (g *group) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(g.dir.Fd())}
}

// RunService runs a command to its end as a service of init's that belongs to root: what is left in
// its group is killed then.
func (p *Phone) RunService(ctx context.Context, argv ...string) error {
	p.t.Helper()
	g := p.newGroup(0)
	command := p.Command(ctx, argv...)
	command.SysProcAttr = g.attributes()
	return errors.Join(command.Run(), g.kill())
}
