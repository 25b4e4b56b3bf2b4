package main

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// whileRead returns a context that ends when the reader of a pipe or socket closes it, as when the
// adb or ssh client disconnects. A command that waits for output would not notice this. For other
// files the context ends only with ctx or the returned function.
func whileRead(ctx context.Context, out *os.File) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	info, err := out.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return ctx, cancel
	}
	go func() {
		for {
			// No event is requested: poll(2) always reports POLLERR and POLLHUP.
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
