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

// A cgroup contains all processes of one start of a service. A process group would not be enough:
// PostgreSQL's processes create their own sessions. A nil *cgroup, on a kernel without cgroups,
// does nothing.
//
// Each start has a new one: some kernels, such as 6.18, kill every process that is cloned into a
// cgroup that was killed before.
type cgroup struct {
	path string
	dir  *os.File // to start processes in
}

// cgroupsMade numbers the cgroups of this boot.
var cgroupsMade atomic.Int64

// newCgroup creates a cgroup with a unique name that begins with name.
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

// Own moves this process into its own cgroup with a guaranteed share of the machine, because it
// supervises the services and serves the endpoint.
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

// controllers are the cgroup controllers that limits need.
var controllers = []string{"cpu", "memory", "pids"}

// EnableControllers enables the available controllers for the cgroups of services. The build
// refuses a kernel that lacks one.
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

// limit sets the limits of all processes in c together. A limit whose controller is not enabled has
// no effect.
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

// writeControl writes to a file of a cgroup. os.WriteFile would try to create a missing one.
func writeControl(name, value string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// number formats n in decimal, or returns "" for 0.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// memoryLimit converts text to bytes. A percentage is relative to this machine's memory.
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
		_ = writeControl(filepath.Join(c.path, "cgroup.kill"), "1") // remove finds out whether it worked
	}
}

// remove kills the remaining processes in c, waits for at most limit until they have ended, and
// removes c.
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
