package main

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// whileRead returns a context that ends when the reader of a pipe or socket has gone, as when the
// adb or ssh client at its other end has gone: what waits for something to write would never learn
// of it. Other files are read for ever.
func whileRead(ctx context.Context, out *os.File) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	info, err := out.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return ctx, cancel
	}
	go func() {
		for {
			// No event is asked for: POLLERR and POLLHUP are told all the same (poll(2)).
			fds := []unix.PollFd{{Fd: int32(out.Fd())}}
			_, err := unix.Poll(fds, -1)
			if err == unix.EINTR {
				continue
			}
			if err == nil && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0 {
				cancel()
			}
			return
		}
	}()
	return ctx, cancel
}
