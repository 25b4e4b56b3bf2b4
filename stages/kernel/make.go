package kernel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/confine"
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
	plain     bool // compile unconfined, see package confine
}

// A source's Makefiles are foreign programs. Files in the tree are therefore read and written with
// confine.ReadOutput and WriteInput only.

// image is the make target and its path, steps the approximate number of lines that make prints.
var targets = map[string]struct {
	image string
	steps int
}{
	arch.ARM64: {"arch/arm64/boot/Image", 1540},
	arch.AMD64: {"arch/x86/boot/bzImage", 1730},
}

// makeImage unpacks, configures and compiles the kernel.
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
	b, err := confine.ReadOutput(t.dir, targets[t.arch].image, maxLoan)
	if err != nil {
		return nil, err
	}
	return kconfig.Open(b)
}

func (t *sourceTree) unpack(ctx context.Context, archive *os.File) error {
	t.task.Step("unpack the source")
	for _, dir := range []string{t.dir, t.temporary()} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	err := t.tools.uncompressed(ctx, archive, func(plain io.Reader) error {
		// The program's own error is more precise than the broken pipe.
		source := &failedReader{r: plain}
		err := t.run(ctx, source, nil, "tar", "--extract", "--file", "-", "--directory", t.dir,
			"--strip-components=1", "--no-same-owner", "--no-same-permissions")
		if source.err != nil {
			return source.err
		}
		if err == nil {
			_, err = io.Copy(io.Discard, plain)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if _, err := confine.ReadOutput(t.dir, "Kbuild", maxArchive); err != nil {
		return errors.New("the archive is not a kernel source: it has no Kbuild file in its top directory")
	}
	return nil
}

// configure enables the options of the fragments and disables all others. It returns an error if
// the result does not meet the guest's requirements.
func (t *sourceTree) configure(ctx context.Context) error {
	t.task.Step("configure")
	var all bytes.Buffer
	for _, f := range t.fragments {
		all.WriteString(f.Text)
	}
	if err := confine.WriteInput(t.dir, "sov.config", all.Bytes()); err != nil {
		return err
	}
	if err := t.make(ctx, nil, "KCONFIG_ALLCONFIG=sov.config", "allnoconfig"); err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	text, err := confine.ReadOutput(t.dir, ".config", maxConfig)
	if err != nil {
		return err
	}
	config, err := kconfig.Parse(text)
	if err != nil {
		return err
	}
	if missing := guest.Check(t.arch, config, guest.AllFeatures); len(missing) > 0 {
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

// make runs make with fixed values for everything that would otherwise depend on the computer or
// the time.
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
		// They are not used, but the configuration would contain their versions.
		"PAHOLE=none", "RUSTC=none", "BINDGEN=none",
	}
	return t.run(ctx, nil, onLine, "make", append(fixed, args...)...)
}

// maxConfig is the largest kernel configuration, in bytes. Usual ones have about 50 KiB.
const maxConfig = 4 << 20

// A failedReader keeps the error that its reader ends with.
type failedReader struct {
	r   io.Reader
	err error
}

func (f *failedReader) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}

// temporary is the programs' /tmp.
func (t *sourceTree) temporary() string { return t.dir + ".tmp" }

// run runs a program that can access only the tree and the tools, and ends it when ctx ends. It
// calls onLine for each line of output; the last lines become part of an error.
//
// If this process is killed, make and its children get SIGPIPE when they print the next line.
func (t *sourceTree) run(ctx context.Context, in io.Reader, onLine func(string), program string, args ...string) error {
	path, err := t.tools.find(program)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	cmd := confine.Command{Path: path, Args: args, Env: t.tools.environment(), Dir: t.dir, Stdin: in, Stdout: w, Stderr: w,
		Write: []string{t.dir}, Read: t.tools.folders(), Temporary: t.temporary(), Plain: t.plain}
	tail := make(chan []string, 1)
	go func() { tail <- readLines(r, onLine) }()
	err = cmd.Run(ctx)
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
