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

// The phone's control groups are real ones of version 2: a group of the computer is the root of the
// phone's hierarchy at /sys/fs/cgroup. Each service and app has a group uid_N/pid_N
// (system/core/libprocessgroup). Init kills the whole group when the first process of a service
// ends (system/core/init/service.cpp, Service::Reap).

// groups counts this process's groups, for unique names.
var groups atomic.Int64

// makeCgroup creates the phone's group, which is removed after the test.
func (p *Phone) makeCgroup() {
	p.t.Helper()
	mount, err := cgroupMount()
	if err != nil {
		p.t.Fatal(err)
	}
	if mount == "" { // the computer has not mounted any
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

// cgroupMount returns the mount point of the computer's whole version 2 hierarchy, or "" if it is
// not mounted.
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

// removeGroups removes a group and its subgroups. It retries for 10 seconds, because killed
// processes may still be exiting.
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

// A group is a control group of the phone, opened so that processes can be started in it.
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

// newGroup creates the group of a service or an app.
func (p *Phone) newGroup(uid int) *group {
	p.t.Helper()
	return p.openGroup(filepath.Join(p.cgroup.dir.Name(), fmt.Sprintf("uid_%d/pid_%d", uid, groups.Add(1))))
}

// kill kills all processes in the group, as init does when a service ends.
func (g *group) kill() error {
	return os.WriteFile(filepath.Join(g.dir.Name(), "cgroup.kill"), []byte("1"), 0)
}

// attributes returns the attributes of a command that starts in the group.
func (g *group) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(g.dir.Fd())}
}

// RunService runs a command as a service of init that belongs to root, and waits for its end. Then
// it kills the rest of the service's group.
func (p *Phone) RunService(ctx context.Context, argv ...string) error {
	p.t.Helper()
	g := p.newGroup(0)
	command := p.Command(ctx, argv...)
	command.SysProcAttr = g.attributes()
	return errors.Join(command.Run(), g.kill())
}
