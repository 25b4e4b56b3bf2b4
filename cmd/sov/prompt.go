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

// askHidden prompts at the controlling terminal without echo, even if standard input is redirected.
// If twice is set it prompts twice, to detect typing errors. It ends with ctx and restores the
// terminal.
func askHidden(ctx context.Context, what string, twice bool) (string, error) {
	terminal, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("ask for the %s: no terminal: %w", what, err)
	}
	defer terminal.Close()
	fd := int(terminal.Fd())
	before, err := term.GetState(fd)
	if err == nil {
		err = silence(fd) // before the prompt: pasted text may arrive early
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

// silence turns the terminal's echo off and canonical mode on.
func silence(fd int) error {
	state, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return err
	}
	state.Lflag &^= unix.ECHO
	state.Lflag |= unix.ICANON | unix.ISIG
	state.Iflag |= unix.ICRNL
	return unix.IoctlSetTermios(fd, setTermios, state)
}

// readHidden prompts at a terminal whose echo is off. Unlike term.ReadPassword it does not change
// the terminal's state: a read that outlives ctx would change it after the state was restored.
func readHidden(ctx context.Context, terminal *os.File, what string) (string, error) {
	fmt.Fprintf(terminal, "%s: ", what)
	answer, err := unlessDone(ctx, func() ([]byte, error) { return readLine(terminal) })
	fmt.Fprintln(terminal)
	if errors.Is(err, io.EOF) || err == nil && len(answer) == 0 {
		err = errors.New("nothing was entered")
	}
	return string(answer), err
}

// readLine reads a line and returns it without its end. It does not read beyond the line.
func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		n, err := r.Read(b)
		switch {
		case n > 0 && b[0] == '\n', errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		case n > 0:
			line = append(line, b[0])
		case err != nil:
			return nil, err
		}
	}
}

// unlessDone returns the result of read, or ctx's error once ctx is done. A read of a terminal or
// pipe cannot be cancelled and then continues until the program ends.
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
