package kernel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/image/kconfig"
	guest "github.com/sovereign-sql/sov/kernel"
	"github.com/sovereign-sql/sov/pipeline"
)

// A sourceTree is an unpacked kernel source that is built in place, so that
// every path the compiler sees is relative and the directory does not matter.
type sourceTree struct {
	dir       string
	arch      string
	tools     toolchain
	jobs      int
	fragments []guest.Fragment
	task      *pipeline.Task
}

// image is what the kernel's makefiles make and where, steps roughly how many lines they print
// meanwhile.
var targets = map[string]struct {
	image string
	steps int
}{
	arch.ARM64: {"arch/arm64/boot/Image", 1540},
	arch.AMD64: {"arch/x86/boot/bzImage", 1730},
}

// makeImage unpacks, configures and compiles.
func (t *sourceTree) makeImage(ctx context.Context, j *pipeline.Job, archive pipeline.Blob) (*kconfig.Image, error) {
	f, err := j.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := t.unpack(ctx, f); err != nil {
		return nil, err
	}
	if err := t.configure(ctx); err != nil {
		return nil, err
	}
	if err := t.compile(ctx); err != nil {
		return nil, err
	}
	return kconfig.OpenFile(filepath.Join(t.dir, targets[t.arch].image))
}

// unpack lets tar find out how the archive is compressed, which it does for a
// file but not for a pipe.
func (t *sourceTree) unpack(ctx context.Context, archive *os.File) error {
	t.task.Step("unpack the source")
	if err := os.Mkdir(t.dir, 0o755); err != nil {
		return err
	}
	err := t.run(ctx, nil, "tar", "--extract", "--file", archive.Name(), "--directory", t.dir,
		"--strip-components=1", "--no-same-owner", "--no-same-permissions")
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if _, err := os.Stat(filepath.Join(t.dir, "Kbuild")); err != nil {
		return errors.New("the archive is no kernel source: it has no Kbuild file in its top directory")
	}
	return nil
}

// configure turns on what the fragments name and everything else off, and
// stops if the guest could not run on what comes out.
func (t *sourceTree) configure(ctx context.Context) error {
	t.task.Step("configure")
	var all bytes.Buffer
	for _, f := range t.fragments {
		all.WriteString(f.Text)
	}
	wanted := filepath.Join(t.dir, "sov.config")
	if err := os.WriteFile(wanted, all.Bytes(), 0o644); err != nil {
		return err
	}
	if err := t.make(ctx, nil, "KCONFIG_ALLCONFIG=sov.config", "allnoconfig"); err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(t.dir, ".config"))
	if err != nil {
		return err
	}
	config, err := kconfig.Parse(text)
	if err != nil {
		return err
	}
	if missing := guest.Check(t.arch, config); len(missing) > 0 {
		return &guest.UnfitError{Kernel: "the kernel that this source and compiler give", Missing: missing}
	}
	return nil
}

func (t *sourceTree) compile(ctx context.Context) error {
	target := targets[t.arch]
	lines := 0
	t.task.Step("compile")
	err := t.make(ctx, func(line string) {
		// make's quiet form: two spaces, what is done, to which file.
		if !strings.HasPrefix(line, "  ") {
			return
		}
		lines++
		if fields := strings.Fields(line); len(fields) >= 2 && lines%8 == 0 {
			t.task.Step(fmt.Sprintf("compile, %d of about %d: %s", lines, max(lines, target.steps), fields[1]))
		}
	}, "-j", fmt.Sprint(t.jobs), filepath.Base(target.image))
	if err != nil {
		return fmt.Errorf("compile: %w", err)
	}
	return nil
}

// make runs make with everything fixed that would otherwise come from this
// machine and moment.
func (t *sourceTree) make(ctx context.Context, onLine func(string), args ...string) error {
	target, err := arch.Get(t.arch)
	if err != nil {
		return err
	}
	fixed := []string{
		"--no-print-directory", "-C", t.dir,
		"ARCH=" + target.Kernel,
		"CROSS_COMPILE=" + t.tools.prefix(),
		"KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970",
		"KBUILD_BUILD_USER=sov",
		"KBUILD_BUILD_HOST=sov",
		"KBUILD_BUILD_VERSION=1",
		// Not used, but their versions would get into the configuration.
		"PAHOLE=none", "RUSTC=none", "BINDGEN=none",
	}
	return t.run(ctx, onLine, "make", append(fixed, args...)...)
}

// run runs a program in a process group of its own, which is killed when ctx
// ends. Output goes to onLine, line by line; the last lines become part of an
// error.
//
// Should this process be killed, make and what it runs get SIGPIPE at the next
// line they print.
func (t *sourceTree) run(ctx context.Context, onLine func(string), program string, args ...string) error {
	path, err := t.tools.find(program)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = t.tools.environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	tail := make(chan []string, 1)
	go func() { tail <- readLines(r, onLine) }()
	err = cmd.Run()
	w.Close()
	last := <-tail
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w; its last lines:\n  %s", program, err, strings.Join(last, "\n  "))
	}
	return nil
}

// readLines reads to the end and returns the last lines.
func readLines(r io.Reader, onLine func(string)) []string {
	const keep = 20
	var last []string
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if onLine != nil {
			onLine(s.Text())
		}
		if len(last) == keep {
			last = last[1:]
		}
		last = append(last, s.Text())
	}
	// A line too long for the scanner ends the scan, not the program.
	_, _ = io.Copy(io.Discard, r)
	return last
}
