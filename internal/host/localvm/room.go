package localvm

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/host/qemu"
)

const (
	// enoughRoom is the free space, in bytes, at which a machine that was paused because of a full
	// disk is resumed: with less it would pause again at once.
	enoughRoom = 8 << 20
	// roomPoll is how often free space is polled.
	roomPoll = 500 * time.Millisecond
	// complaintInterval is the minimum time between messages about other disk errors.
	complaintInterval = time.Minute
)

// watchDisks reports disk errors of this computer and resumes the machine once there is space
// again, until the machine ends.
func (vm *VM) watchDisks() {
	var told time.Time
	for {
		select {
		case <-vm.Done():
			return
		case e := <-vm.machine.BlockErrors():
			switch {
			case e.Stopped:
				vm.awaitRoom()
			case time.Since(told) >= complaintInterval:
				told = time.Now()
				vm.notice("%s: a %s of the machine failed: %s: the guest was told", vm.diskPath(e.Disk), e.Operation, e.Reason)
			}
		}
	}
}

// diskPath returns the file of the disk with a QEMU name, or the folder of all disks.
func (vm *VM) diskPath(name string) string {
	for i, d := range vm.spec.Disks {
		if keeps := d.Role == vmspec.RoleData || d.Role == vmspec.RoleVolume; keeps && qemu.DiskName(i) == name {
			return vm.state.path(diskName(d.Name))
		}
	}
	return vm.state.dir
}

// awaitRoom resumes a machine that QEMU has paused once there is space.
func (vm *VM) awaitRoom() {
	vm.full.Store(true)
	vm.notice("%s: the machine is paused until there is room", vm.fullDisk())
	tick := time.NewTicker(roomPoll)
	defer tick.Stop()
	for {
		select {
		case <-vm.Done():
			return
		case <-tick.C:
		}
		if !hasRoom(vm.state.dir) {
			continue
		}
		for len(vm.machine.BlockErrors()) > 0 { // other failed requests, which are also repeated
			<-vm.machine.BlockErrors()
		}
		vm.full.Store(false)
		if vm.machine.Resume(context.Background()) == nil {
			vm.notice("there is space again: the machine continues")
		}
		return
	}
}

// fullDisk names the full disk.
func (vm *VM) fullDisk() string { return fmt.Sprintf("the disk that holds %s is full", vm.state.dir) }

// hasRoom reports whether the file system of a folder has enoughRoom.
func hasRoom(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && int64(s.Bavail)*int64(s.Bsize) >= enoughRoom
}
