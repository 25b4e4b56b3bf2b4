package android

import (
	"fmt"
	"os"
	"path/filepath"
)

// WakeLock acquires the named wake lock, so that the phone does not suspend and stop all
// processors, including the guest's. The kernel holds it until WakeUnlock, also after this process
// has ended. Kernels without CONFIG_PM_WAKELOCKS do not support it.
func (p Phone) WakeLock(name string) error { return p.writeLock("wake_lock", name) }

// WakeUnlock releases the named wake lock. It is an error if the lock is not held.
func (p Phone) WakeUnlock(name string) error { return p.writeLock("wake_unlock", name) }

// writeLock writes a name to one of the kernel's two files (Documentation/ABI/testing/sysfs-power).
func (p Phone) writeLock(file, name string) error {
	f, err := os.OpenFile(filepath.Join(p.Root, "/sys/power", file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(name + "\n")
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", file, name, err)
	}
	return nil
}
