// Package tuntap opens TAP interfaces (the kernel's documentation, networking/tuntap).
package tuntap

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens a TAP interface with crosvm's flags (net_util/src/sys/linux/tap.rs), which are also
// used to create machines' interfaces. If the interface does not exist, the kernel creates one that
// is removed when the file is closed.
func Open(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
