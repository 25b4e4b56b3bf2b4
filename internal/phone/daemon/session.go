package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// Session connects in and out to a session of the guest of a machine that runs, until the guest or
// the caller ends it. The frames are package session's and the caller's: the phone adds the token,
// which stays here.
func Session(ctx context.Context, root phonepath.Root, name string, in io.Reader, out io.Writer) error {
	conn, err := openSession(ctx, root, name)
	if errors.Is(err, guestapi.ErrNoSessions) {
		err = fmt.Errorf("%w: `sov push %s` installs one that has, if its recipe is built with this sov", err, name)
	}
	if err != nil {
		return fmt.Errorf("shell in %s: %w", name, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	go func() {
		defer conn.Close() // the caller has disconnected
		io.Copy(conn, in)
	}()
	if _, err := io.Copy(out, conn); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("shell in %s: %w", name, err)
	}
	return nil
}

func openSession(ctx context.Context, root phonepath.Root, name string) (io.ReadWriteCloser, error) {
	client, err := clientOf(root, name)
	if err != nil {
		return nil, err
	}
	return client.Session(ctx)
}
