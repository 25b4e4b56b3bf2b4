package terminal

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/session"
)

// open opens a pseudoterminal: the user's end and the program's end.
func open(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { person.Close() })
	fd := int(person.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

func TestTerminal(t *testing.T) {
	person, program := open(t)
	if Of(&bytes.Buffer{}, program) != nil || Of(program, &bytes.Buffer{}) != nil || Of(os.NewFile(^uintptr(0), "none"), program) != nil {
		t.Error("something else is taken for a terminal")
	}
	terminal := Of(program, program)
	if terminal == nil {
		t.Fatal("a terminal is not taken for one")
	}
	if got := terminal.Size(); got != (session.Size{Rows: 24, Columns: 80}) {
		t.Errorf("without a size: %+v", got)
	}
	before, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	giveBack, err := terminal.Lend()
	if err != nil {
		t.Fatal(err)
	}
	lent, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil || lent.Lflag&(unix.ECHO|unix.ISIG|unix.ICANON) != 0 {
		t.Errorf("lent: %v, %v", lent, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sizes := terminal.Sizes(ctx)
	if err := unix.IoctlSetWinsize(int(person.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 132}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil { // it is not this process's controlling terminal
		t.Fatal(err)
	}
	if got := <-sizes; got != (session.Size{Rows: 50, Columns: 132}) {
		t.Errorf("a new size: %+v", got)
	}
	if err := giveBack(); err != nil {
		t.Fatal(err)
	}
	after, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("given back: %+v, %v; want %+v", after, err, before)
	}
}
