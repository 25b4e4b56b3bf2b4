package device

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

const (
	// linger is how long the client may take to end after the command. It ends at once unless a
	// daemon keeps the command's pipes open.
	linger = 300 * time.Millisecond
	// drain is how long a pipe may be silent, and its reader may take, after the client has ended.
	drain = 2 * time.Second
)

// A link is a Phone whose shell is reached through a client program on this computer.
type link struct {
	name string
	root phonepath.Root
	// client returns the program that runs a script in the phone's shell, with this process's
	// pipes.
	client func(ctx context.Context, script string, stdin bool) *exec.Cmd
	// explain returns why the client ended before the script, from its standard error.
	explain func(said string) string

	mu sync.Mutex
	su *shape // how to become root; nil: not known yet
}

func (l *link) Name() string         { return l.name }
func (l *link) Root() phonepath.Root { return l.root }

// Run implements Phone.
func (l *link) Run(ctx context.Context, c Command) error {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return fmt.Errorf("%s: a command without a program", l.name)
	}
	for _, arg := range c.Args {
		if strings.ContainsRune(arg, 0) {
			return fmt.Errorf("%s: %s: an argument holds a zero byte", l.name, command(c.Args))
		}
	}
	script := Quote(c.Args)
	if !c.AsShell {
		su, err := l.becomeRoot(ctx)
		if err != nil {
			return err
		}
		script = su.wrap(script)
	}
	return l.run(ctx, c, script)
}

// run runs a shell command, as the shell's user. c.Args are for messages.
func (l *link) run(ctx context.Context, c Command, script string) error {
	limit := c.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	bounded, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	if limit > 0 {
		timer := time.AfterFunc(limit, func() { giveUp(&TimeoutError{Phone: l.name, Args: c.Args, After: limit}) })
		defer timer.Stop()
	}

	mark := newMark()
	r := &run{l: l, c: c, giveUp: giveUp}
	r.ends.Store(2) // standard output and standard error
	r.stdout = &stream{to: c.Stdout, mark: []byte(mark), ended: r.ended}
	if c.Live {
		r.stdout.mark = nil // so the output ends with the client, and r.ends never reaches 0
	}
	r.stderr = &stream{to: &r.said, mark: []byte(mark), status: true, ended: r.ended}
	if c.Stderr != nil {
		r.stderr.to = io.MultiWriter(&r.said, c.Stderr)
	}
	client := l.client(bounded, marked(script, mark, c.Live), c.Stdin != nil)
	alone(client)
	if c.Idle > 0 {
		r.touch()
		stop := r.watch()
		defer stop()
	}
	passed, err := r.pipe(bounded, client)
	if !passed {
		return cmp.Or(gaveUp(ctx, bounded), fmt.Errorf("%s: %s: %w", l.name, command(c.Args), context.Cause(bounded)))
	}
	return r.verdict(ctx, bounded, err)
}

// pipe runs the client with the command's streams and returns its error after all its output was
// passed on. It waits for a slow reader, such as a pager, within the command's limits: passed is
// false if output may be lost.
func (r *run) pipe(bounded context.Context, client *exec.Cmd) (passed bool, err error) {
	out, err := newOutlet(&active{w: r.stdout, r: r}, &client.Stdout)
	if err != nil {
		return true, err
	}
	said, err := newOutlet(&active{w: r.stderr, r: r}, &client.Stderr)
	if err != nil {
		out.close()
		return true, err
	}
	err = r.start(client)
	out.begin()
	said.begin()
	if err == nil {
		err = client.Wait()
	}
	out.writersGone()
	said.writersGone()
	return r.ends.Load() == 0 || out.wait(bounded) && said.wait(bounded), err
}

// start starts the client with the command's standard input, if it has one. start does not wait for
// a source of input that blocks, even after the client has ended.
func (r *run) start(client *exec.Cmd) error {
	from := r.c.Stdin
	if from == nil {
		return client.Start()
	}
	stdin, err := client.StdinPipe()
	if err != nil {
		return err
	}
	if err := client.Start(); err != nil {
		return err
	}
	go func() {
		io.Copy(stdin, &active{src: from, r: r}) // errors of the source are recorded; an ended client does not read any more
		stdin.Close()
	}()
	return nil
}

// alone puts the client into a new process group, so that the terminal's Ctrl-C reaches only this
// program, which ends the group with the context.
func alone(client *exec.Cmd) {
	client.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	client.Cancel = func() error {
		err := syscall.Kill(-client.Process.Pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) {
			return nil
		}
		return err
	}
	client.WaitDelay = drain // for pipes that are not an outlet's
}

// A run is one command that runs.
type run struct {
	l              *link
	c              Command
	giveUp         context.CancelCauseFunc
	stdout, stderr *stream
	said           tail
	ends           atomic.Int32 // streams whose mark has not come
	last           atomic.Int64 // when bytes passed last, in nanoseconds since 1970
	passing        atomic.Int32 // streams whose reader is busy with what it has got
	input          atomic.Pointer[error]
}

// errEnded ends a client whose command has ended.
var errEnded = errors.New("the command has ended")

// ended is called for each stream at its mark.
func (r *run) ended() {
	if r.ends.Add(-1) == 0 {
		time.AfterFunc(linger, func() { r.giveUp(errEnded) })
	}
}

func (r *run) touch() { r.last.Store(time.Now().UnixNano()) }

// watch ends the command if no byte was transferred for a while. It returns the function that stops
// the watch.
func (r *run) watch() func() {
	done := make(chan struct{})
	go func() {
		ticker := time.NewTicker(max(r.c.Idle/10, time.Millisecond))
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				if r.passing.Load() == 0 && time.Since(time.Unix(0, r.last.Load())) > r.c.Idle {
					r.giveUp(&TimeoutError{Phone: r.l.name, Args: r.c.Args, After: r.c.Idle, Idle: true})
					return
				}
			}
		}
	}()
	return func() { close(done) }
}

// verdict returns the command's error. client is the client's error.
func (r *run) verdict(ctx, bounded context.Context, client error) error {
	outDone, _, outErr := r.stdout.result()
	errDone, status, errErr := r.stderr.result()
	if err := errors.Join(outErr, errErr); err != nil {
		return fmt.Errorf("%s: %s: output: %w", r.l.name, command(r.c.Args), err)
	}
	if input := r.input.Load(); input != nil {
		return fmt.Errorf("%s: %s: input: %w", r.l.name, command(r.c.Args), *input)
	}
	if (outDone || r.c.Live) && errDone {
		if status == 0 {
			return nil
		}
		return &ExitError{Phone: r.l.name, Args: r.c.Args, Status: status, Stderr: r.said.String()}
	}
	r.stdout.rest()
	r.stderr.rest()
	if err := gaveUp(ctx, bounded); err != nil {
		return err
	}
	if errors.Is(client, exec.ErrNotFound) {
		return fmt.Errorf("%s: %w: install it, or put its folder into $PATH", r.l.name, client)
	}
	said := strings.TrimSpace(r.said.String())
	if said == "" && client != nil {
		said = client.Error()
	}
	return &LostError{Phone: r.l.name, Reason: r.l.explain(said)}
}

// gaveUp returns why the caller or a limit ended the command, or nil.
func gaveUp(ctx, bounded context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if timeout := new(TimeoutError); errors.As(context.Cause(bounded), &timeout) {
		return timeout
	}
	return nil
}

// active passes bytes on and records the time. After an error it ends the client, because the rest
// of the data is useless.
type active struct {
	w   io.Writer
	src io.Reader
	r   *run
}

func (a *active) Write(p []byte) (int, error) {
	a.r.passing.Add(1)
	n, err := a.w.Write(p)
	a.r.touch()
	a.r.passing.Add(-1)
	if err != nil {
		a.r.giveUp(err)
	}
	return n, err
}

func (a *active) Read(p []byte) (int, error) {
	n, err := a.src.Read(p)
	a.r.touch()
	if err != nil && err != io.EOF {
		a.r.input.Store(&err)
		a.r.giveUp(err)
	}
	return n, err
}
