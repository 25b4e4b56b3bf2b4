//go:build linux

package filesystem

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// A mount is a kernel file system that every guest has.
type mount struct {
	path, kind string
	flags      uintptr
	options    string
	optional   bool // the guest works without it
}

// kernelMounts are mounted first, in this order. The kernel may have mounted /dev already.
var kernelMounts = []mount{
	{"/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "", false},
	{"/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "", false},
	{"/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755", false},
	// gid 5 is the group tty of Alpine and Debian; ptmx is for all users, as in every distribution.
	{"/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666", true},
	{"/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777", false},
	{"/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755", false},
	{"/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777", false},
	{process.CgroupRoot, "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "", true},
}

// MountKernel mounts kernelMounts, enables cgroup controllers, and creates the links into /proc
// that shells expect in /dev. problems are errors with which the guest still works; err is one with
// which it does not.
func MountKernel() (problems []error, err error) {
	for _, m := range kernelMounts {
		// A directory can only be created in /dev. The others exist.
		if err := os.Mkdir(m.path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) && !m.optional {
			return problems, fmt.Errorf("make the mount point of %s: %w", m.kind, err)
		}
		err := MountOnce(m.kind, m.path, m.kind, m.flags, m.options)
		if err != nil && !m.optional {
			return problems, err
		}
		if err != nil {
			problems = append(problems, err)
		}
	}
	for _, prepare := range []func() error{process.EnableControllers, process.Own} {
		if err := prepare(); err != nil {
			problems = append(problems, err)
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(target, filepath.Join("/dev", name)); err != nil && !errors.Is(err, fs.ErrExist) {
			problems = append(problems, err)
		}
	}
	return problems, nil
}

// MountOnce mounts unless path is a mount point already.
func MountOnce(source, path, kind string, flags uintptr, options string) error {
	mounted, err := isMountPoint(path)
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, path, err)
	}
	if mounted {
		return nil
	}
	if err := unix.Mount(source, path, kind, flags, options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, path, err)
	}
	return nil
}

// isMountPoint reports whether another file system begins at path.
func isMountPoint(path string) (bool, error) {
	var here, above unix.Stat_t
	if err := unix.Lstat(path, &here); err != nil {
		return false, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	if here.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false, &fs.PathError{Op: "mount", Path: path, Err: unix.ENOTDIR}
	}
	if err := unix.Lstat(filepath.Dir(path), &above); err != nil {
		return false, &fs.PathError{Op: "lstat", Path: filepath.Dir(path), Err: err}
	}
	return here.Dev != above.Dev, nil
}

// MountTmpfs mounts t unless its path is a mount point: a service's tmpfs is kept across its
// restarts.
func MountTmpfs(t guestspec.Tmpfs) error {
	cred, _, err := process.Credential(t.User, t.Group)
	if err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", t.Path, err)
	}
	options := fmt.Sprintf("mode=%s,uid=%d,gid=%d", t.Mode, cred.Uid, cred.Gid)
	if t.Size != "" {
		options += ",size=" + t.Size
	}
	return MountOnce("tmpfs", t.Path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options)
}
