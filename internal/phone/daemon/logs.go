package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

const (
	maxLog     = 1 << 20 // bytes, after which a log is rotated
	keptLogs   = 3       // older parts; .1 is the newest
	rotatePoll = 10 * time.Second
	followPoll = 200 * time.Millisecond
)

// rotateLogs limits the size of logs until ctx ends. crosvm keeps them open and cannot be told to
// reopen them, so a log is copied and then truncated; at most a line that is written between the
// two is lost.
func rotateLogs(ctx context.Context, log func(string), paths ...string) {
	ticker := time.NewTicker(rotatePoll)
	defer ticker.Stop()
	for {
		for _, path := range paths {
			if err := rotate(path, maxLog); err != nil {
				log(fmt.Sprintf("rotate %s: %v", path, err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// rotate moves a log of more than limit bytes to PATH.1, and older parts to the next numbers. Of a
// much larger log it keeps the end. Nothing is synced: a power cut may lose lines.
func rotate(path string, limit int64) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() <= limit {
		return nil
	}
	if err != nil {
		return err
	}
	for i := keptLogs - 1; i >= 1; i-- {
		if err := os.Rename(part(path, i), part(path, i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	text, err := readEnd(path, 2*limit)
	if err == nil {
		err = os.WriteFile(part(path, 1), text, 0o600)
	}
	if err != nil {
		return err
	}
	return os.Truncate(path, 0)
}

func part(path string, i int) string { return fmt.Sprintf("%s.%d", path, i) }

// tail returns the last n lines of a log, including those of its older part if it was rotated
// recently.
func tail(path string, n int) ([]string, error) {
	var text []byte
	for _, p := range []string{part(path, 1), path} {
		more, err := readEnd(p, 256<<10)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		text = append(text, more...)
	}
	lines := strings.Split(strings.TrimRight(string(text), "\r\n"), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return nil, nil
	}
	return lines[max(0, len(lines)-n):], nil
}

// readEnd reads at most limit bytes from a file's end.
func readEnd(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	begin := max(0, info.Size()-limit)
	return io.ReadAll(io.NewSectionReader(f, begin, limit))
}

// size returns a file's size, or 0 if it does not exist.
func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// followLog copies a log from an offset on to w, and everything that is appended, until ctx ends.
// After a rotation it continues at the new beginning.
func followLog(ctx context.Context, path string, at int64, w io.Writer) error {
	ticker := time.NewTicker(followPoll)
	defer ticker.Stop()
	for {
		f, err := os.Open(path)
		if err == nil {
			if info, err := f.Stat(); err == nil && info.Size() < at {
				at = 0
			}
			n, err := io.Copy(w, io.NewSectionReader(f, at, 1<<62))
			f.Close()
			if err != nil {
				return err
			}
			at += n
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// printLines writes lines, each with a newline.
func printLines(w io.Writer, lines []string) error {
	b := bufio.NewWriter(w)
	for _, line := range lines {
		b.WriteString(strings.TrimRight(line, "\r"))
		b.WriteByte('\n')
	}
	return b.Flush()
}

// LogOptions select a log.
type LogOptions struct {
	Runner  bool   // the runner's log instead of the guest's console
	Service string // a service's log instead of the guest's console
	Lines   int    // number of lines, from the end
	Follow  bool   // continue with new lines until ctx ends
}

// Logs prints a log of the machine.
func Logs(ctx context.Context, root phonepath.Root, name string, o LogOptions, w io.Writer) error {
	vm, err := lookUp(root, name)
	if err != nil {
		return err
	}
	if o.Service != "" {
		return serviceLog(ctx, vm, o, w)
	}
	path := vm.Console()
	if o.Runner {
		path = vm.Log()
	}
	at := size(path) // before reading the end: a line may be shown twice, but none is lost
	lines, err := tail(path, o.Lines)
	if err != nil {
		return fmt.Errorf("logs of %s: %w", name, err)
	}
	if lines == nil && !o.Follow && !o.Runner { // it ended before its console existed, or is still starting
		if lines, err = tail(vm.Early(), o.Lines); err != nil {
			return fmt.Errorf("logs of %s: %w", name, err)
		}
	}
	if lines == nil && !o.Follow {
		return fmt.Errorf("logs of %s: there is nothing in %s", name, path)
	}
	if err := printLines(w, lines); err != nil || !o.Follow {
		return err
	}
	return followLog(ctx, path, at, w)
}
