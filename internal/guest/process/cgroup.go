//go:build linux

package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// CgroupRoot is where cgroup2 is mounted.
const CgroupRoot = "/sys/fs/cgroup"

// A cgroup holds the processes of one start of a service, wherever they went: PostgreSQL's make
// sessions of their own, so that no process group would catch them all. A nil *cgroup, on a
// kernel without them, does nothing.
//
// Each start has a new one: some kernels (6.18 is one) kill every process that is cloned into a
// cgroup which was killed before.
type cgroup struct {
	path string
	dir  *os.File // to start processes in
}

// cgroupsMade numbers the cgroups of this boot.
var cgroupsMade atomic.Int64

// newCgroup makes a cgroup for something of this name.
func newCgroup(name string) (*cgroup, error) {
	path := filepath.Join(CgroupRoot, fmt.Sprintf("%s.%d", name, cgroupsMade.Add(1)))
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		os.Remove(path)
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	return &cgroup{path, dir}, nil
}

// Own moves this process into a cgroup of its own, with a share of the machine that no service can
// take: it starts and watches them, and answers for the machine.
func Own() error {
	own := guestspec.Limits{Keeps: "5%", Weight: guestspec.OwnWeight}
	c, err := newCgroup("init")
	if err == nil {
		err = errors.Join(c.limit(own), writeControl(filepath.Join(c.path, "cgroup.procs"), "0"), c.dir.Close())
	}
	if err != nil {
		return fmt.Errorf("enter a cgroup of its own: %w", err)
	}
	return nil
}

// controllers are what limits need of a cgroup.
var controllers = []string{"cpu", "memory", "pids"}

// EnableControllers gives the cgroups of services the controllers that this kernel has of those
// that limits need. The build refuses a kernel that lacks one.
func EnableControllers() error {
	has, err := os.ReadFile(filepath.Join(CgroupRoot, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read the controllers of cgroups: %w", err)
	}
	for _, name := range strings.Fields(string(has)) {
		if !slices.Contains(controllers, name) {
			continue
		}
		if err := writeControl(filepath.Join(CgroupRoot, "cgroup.subtree_control"), "+"+name); err != nil {
			return fmt.Errorf("enable the cgroup controller %s: %w", name, err)
		}
	}
	return nil
}

// limit sets what all processes in c may take together. A controller that is not enabled limits
// nothing.
func (c *cgroup) limit(l guestspec.Limits) error {
	memory, err := memoryLimit(l.Memory)
	keeps, keepsErr := memoryLimit(l.Keeps)
	if err := errors.Join(err, keepsErr); err != nil {
		return err
	}
	const period = 100_000 // microseconds: the kernel's default
	for file, value := range map[string]string{
		"memory.max": memory,
		"memory.low": keeps,
		"pids.max":   number(l.Processes),
		"cpu.max":    number(l.CPU * period / 100),
		"cpu.weight": number(l.Weight),
	} {
		if value == "" {
			continue
		}
		if err := writeControl(filepath.Join(c.path, file), value); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("set %s to %s: %w", file, value, err)
		}
	}
	return nil
}

// writeControl writes to a file of a cgroup. os.WriteFile would try to make one that does not
// exist.
func writeControl(name, value string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// number is n in decimal, or empty for 0.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// memoryLimit is text in bytes: a percentage is one of this machine's memory.
func memoryLimit(text string) (string, error) {
	percent, ok := strings.CutSuffix(text, "%")
	if !ok {
		return text, nil
	}
	n, err := strconv.ParseUint(percent, 10, 7)
	if err != nil {
		return "", fmt.Errorf("memory limit %s: %w", text, err)
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return "", fmt.Errorf("read the size of the memory: %w", err)
	}
	return strconv.FormatUint(uint64(info.Totalram)*uint64(info.Unit)/100*n, 10), nil
}

// kill sends SIGKILL to every process in c.
func (c *cgroup) kill() {
	if c != nil {
		_ = writeControl(filepath.Join(c.path, "cgroup.kill"), "1") // remove tells whether it worked
	}
}

// remove kills what is left in c and waits until it is gone, for at most limit.
func (c *cgroup) remove(limit time.Duration) {
	if c == nil {
		return
	}
	c.kill()
	c.dir.Close()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if err := os.Remove(c.path); err == nil || os.IsNotExist(err) {
			return // a cgroup with processes cannot be removed
		}
	}
}
