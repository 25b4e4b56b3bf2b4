// Package terminal handles the terminal that this program runs in. It removes control sequences
// from untrusted text: names in a registry, answers of a phone, lines of a guest's log, texts of
// packages, and errors that quote any of them. It also connects the terminal to a remote command:
// keys, including Ctrl-C, are sent as they are typed, and changes of the size are passed on. The
// terminal's state is restored however the command ends.
package terminal

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/sovereign-sql/sov/internal/contract/session"
)

// A Terminal is the terminal of this program.
type Terminal struct {
	in, out *os.File
}

// Of returns the terminal of in and out, or nil if they are not both terminals.
func Of(in io.Reader, out io.Writer) *Terminal {
	keys, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(keys.Fd())) {
		return nil
	}
	screen, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(screen.Fd())) {
		return nil
	}
	return &Terminal{in: keys, out: screen}
}

// Size returns the terminal's size; 24 lines of 80 columns if it has none.
func (t *Terminal) Size() session.Size {
	width, height, err := term.GetSize(int(t.out.Fd()))
	if err != nil || width <= 0 || height <= 0 || width > 1<<16-1 || height > 1<<16-1 {
		return session.Size{Rows: 24, Columns: 80}
	}
	return session.Size{Rows: uint16(height), Columns: uint16(width)}
}

// Lend puts the terminal into raw mode. The caller must call the returned function, which restores
// the mode.
func (t *Terminal) Lend() (giveBack func() error, err error) {
	before, err := term.MakeRaw(int(t.in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("prepare the terminal: %w", err)
	}
	return func() error { return term.Restore(int(t.in.Fd()), before) }, nil
}

// Sizes sends the terminal's size whenever it has changed, until ctx ends.
func (t *Terminal) Sizes(ctx context.Context) <-chan session.Size {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	sizes := make(chan session.Size)
	go func() {
		defer signal.Stop(changed)
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			select {
			case <-ctx.Done():
				return
			case sizes <- t.Size():
			}
		}
	}()
	return sizes
}
