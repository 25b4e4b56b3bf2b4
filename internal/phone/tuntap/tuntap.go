// Package tuntap opens TAP interfaces (the kernel's documentation, networking/tuntap).
package tuntap

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens a TAP interface with the flags of crosvm's own (net_util/src/sys/linux/tap.rs), with
// which interfaces of machines are made as well. The kernel makes one that does not exist, which
// goes when the file is closed.
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
