package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// askHidden asks at the terminal that the program runs in, wherever its standard input comes from, and shows nothing of
// the answer; twice where a slip of the finger would go unseen. It ends with ctx and leaves the terminal as it was.
func askHidden(ctx context.Context, what string, twice bool) (string, error) {
	terminal, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("ask for the %s: there is no terminal: %w", what, err)
	}
	defer terminal.Close()
	fd := int(terminal.Fd())
	before, err := term.GetState(fd)
	if err == nil {
		err = silence(fd) // before the question: who pastes is faster than the program
	}
	if err != nil {
		return "", fmt.Errorf("ask for the %s: %w", what, err)
	}
	defer term.Restore(fd, before)
	answer, err := readHidden(ctx, terminal, what)
	if err != nil || !twice {
		return answer, err
	}
	again, err := readHidden(ctx, terminal, what+", again")
	if err == nil && again != answer {
		err = errors.New("the two entries differ")
	}
	return answer, err
}

// silence switches the terminal's echo off.
func silence(fd int) error {
	state, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return err
	}
	state.Lflag &^= unix.ECHO
	return unix.IoctlSetTermios(fd, setTermios, state)
}

func readHidden(ctx context.Context, terminal *os.File, what string) (string, error) {
	fmt.Fprintf(terminal, "%s: ", what)
	answer, err := unlessDone(ctx, func() ([]byte, error) { return term.ReadPassword(int(terminal.Fd())) })
	fmt.Fprintln(terminal)
	if errors.Is(err, io.EOF) || err == nil && len(answer) == 0 {
		err = errors.New("nothing was entered")
	}
	return string(answer), err
}

// unlessDone returns what read does, or ctx's error as soon as that is done: a read of a terminal or a pipe cannot be
// called back, and ends with the program.
func unlessDone(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		content []byte
		err     error
	}
	results := make(chan result, 1)
	go func() {
		content, err := read()
		results <- result{content, err}
	}()
	select {
	case r := <-results:
		return r.content, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
