//go:build linux

package process

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
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

// kill sends SIGKILL to every process in c.
func (c *cgroup) kill() {
	if c != nil {
		os.WriteFile(filepath.Join(c.path, "cgroup.kill"), []byte("1"), 0)
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
