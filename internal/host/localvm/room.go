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
	// enoughRoom is what a file system must have free, in bytes, before a machine that is paused
	// for want of it goes on: with less it would stop again at once.
	enoughRoom = 8 << 20
	// roomPoll is how often the room is looked at.
	roomPoll = 500 * time.Millisecond
	// complaintInterval is how often other failures of a disk are told.
	complaintInterval = time.Minute
)

// watchDisks tells what fails on the disks' side of this computer, and pauses and resumes the
// machine with the room that there is for its data, until it ends.
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

// diskPath is the file of the disk that QEMU knows by a name, or the folder of all.
func (vm *VM) diskPath(name string) string {
	for i, d := range vm.spec.Disks {
		if keeps := d.Role == vmspec.RoleData || d.Role == vmspec.RoleVolume; keeps && qemu.DiskName(i) == name {
			return vm.state.path(diskName(d.Name))
		}
	}
	return vm.state.dir
}

// awaitRoom resumes a machine that QEMU has paused, once there is room.
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
		for len(vm.machine.BlockErrors()) > 0 { // of other requests, which are repeated, too
			<-vm.machine.BlockErrors()
		}
		vm.full.Store(false)
		if vm.machine.Resume(context.Background()) == nil {
			vm.notice("there is space again: the machine continues")
		}
		return
	}
}

// fullDisk says what is full.
func (vm *VM) fullDisk() string { return fmt.Sprintf("the disk that holds %s is full", vm.state.dir) }

// hasRoom reports whether the file system of a folder has room for more.
func hasRoom(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && int64(s.Bavail)*int64(s.Bsize) >= enoughRoom
}
