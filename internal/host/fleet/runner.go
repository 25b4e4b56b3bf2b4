package fleet

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/terminal"
)

// Exit statuses of a shell that could not run a program (POSIX, Shell Command Language, 2.8.2), and
// sov-runner's own.
const (
	shellNotExecutable = 126
	shellNotFound      = 127
	runnerUsage        = 2
	runnerFound        = 3
)

// ErrNoRunner is returned for a phone without sov-runner.
var ErrNoRunner = errors.New("sov is not installed there")

// Runner runs sov-runner on the phone with the arguments verb, name (unless empty) and args. Its
// progress goes to ErrOut, and its error message becomes the error, which is a *FoundError if a
// check found a problem.
func (s *Site) Runner(ctx context.Context, c device.Command, verb, name string, args ...string) error {
	argv := []string{s.Root().Runner()}
	if s.Root() != phonepath.Default {
		argv = append(argv, "--root", string(s.Root()))
	}
	argv = append(argv, verb)
	if name != "" {
		argv = append(argv, name)
	}
	c.Args = append(argv, args...)
	if c.Stdin == nil && s.Stdin != nil {
		c.Stdin = bytes.NewReader(s.Stdin)
	}
	said := &complaint{to: s.ErrOut, program: s.Root().Runner()}
	c.Stderr = said
	err := s.Run(ctx, c)
	said.flush()
	var exit *device.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	text := said.text()
	switch {
	case exit.Status == shellNotFound || exit.Status == shellNotExecutable:
		return fmt.Errorf("%s: %w (no %s): `sov push %s` installs it", s.Name(), ErrNoRunner, s.Root().Runner(), cmp.Or(name, "NAME"))
	case exit.Status == runnerUsage && (strings.Contains(text, "unknown command") || strings.Contains(text, "unknown flag")):
		return fmt.Errorf("%s: its sov-runner is older than this sov (%s): `sov push %s` installs the matching one", s.Name(), text, cmp.Or(name, "NAME"))
	case exit.Status == runnerFound:
		return &FoundError{What: fmt.Sprintf("%s on %s: %s found something", name, s.Name(), verb)}
	case text != "":
		return errors.New(text)
	}
	return err
}

// Ask runs sov-runner with --json and returns its object, also if a check found a problem.
func (s *Site) Ask(ctx context.Context, limit time.Duration, verb, name string, args ...string) (json.RawMessage, error) {
	var out bytes.Buffer
	err := s.Runner(ctx, device.Command{Stdout: device.Limited(&out), Limit: limit}, verb, name, append(args, "--json")...)
	if err != nil && !errors.As(err, new(*FoundError)) {
		return nil, err
	}
	if !json.Valid(out.Bytes()) {
		return nil, fmt.Errorf("%s: the answer of sov-runner %s is not JSON: it may not match this sov: `sov push %s` installs the one that does", s.Name(), verb, name)
	}
	return out.Bytes(), err
}

// A complaint passes on sov-runner's output up to its error message, which comes last, and keeps
// that.
type complaint struct {
	to   io.Writer
	held []byte // an unfinished line
	last []string

	program string // which the shell may not find, as its exit status says
}

const complains = "sov-runner: "

// Write implements io.Writer.
func (c *complaint) Write(p []byte) (int, error) {
	c.held = append(c.held, p...)
	for {
		line, rest, whole := bytes.Cut(c.held, []byte("\n"))
		if !whole && len(c.held) < maxHeldLine {
			return len(p), nil
		}
		if err := c.line(string(line)); err != nil {
			return 0, err
		}
		c.held = append([]byte(nil), rest...)
	}
}

func (c *complaint) line(line string) error {
	const enough = 20 // lines
	if after, ok := strings.CutPrefix(line, complains); ok {
		c.last = append(c.last, terminal.Harmless(after))
		return nil
	}
	if len(c.last) > 0 {
		if len(c.last) < enough {
			c.last = append(c.last, terminal.Harmless(line))
		}
		return nil
	}
	if strings.Contains(line, c.program+": ") && (strings.HasSuffix(line, "not found") || strings.HasSuffix(line, "No such file or directory")) {
		return nil
	}
	_, err := io.WriteString(c.to, line+"\n")
	return err
}

func (c *complaint) flush() {
	if len(c.held) > 0 {
		c.line(string(c.held))
		c.held = nil
	}
}

func (c *complaint) text() string { return strings.Join(c.last, "\n") }
