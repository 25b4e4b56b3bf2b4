package device

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"
)

// MaxOutput is the largest result of Output, in bytes, far more than any output of the runner.
const MaxOutput = 8 << 20

// idle is how long a transfer may be silent.
const idle = 30 * time.Second

var errTooLong = errors.New("it is longer than anything that is expected")

// limited is a writer that fails after some bytes.
type limited struct {
	w    io.Writer
	left int64
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, errTooLong
	}
	return l.w.Write(p)
}

// Output runs a command and returns its standard output. More than MaxOutput bytes are an error.
// The output is also returned with an error.
func Output(ctx context.Context, p Phone, args ...string) ([]byte, error) {
	var out bytes.Buffer
	err := p.Run(ctx, Command{Args: args, Stdout: &limited{w: &out, left: MaxOutput}})
	return out.Bytes(), err
}

// WriteFile atomically writes and syncs a file of exactly size bytes of content, with the
// permission bits of mode, in an existing folder. After an error, such as a broken connection, the
// old file is unchanged.
func WriteFile(ctx context.Context, p Phone, name string, mode fs.FileMode, content io.Reader, size int64) error {
	const script = `umask 077; n=$1.part$$; trap 'rm -f "$n"' EXIT; trap 'exit 1' HUP INT TERM
cat >"$n" && [ "$(wc -c <"$n")" -eq "$2" ] || { echo "only a part of it has come" >&2; exit 1; }
chmod "$3" "$n" && sync && mv -f "$n" "$1" && sync`
	if !path.IsAbs(name) {
		return fmt.Errorf("write %s: it is not an absolute path", name)
	}
	err := p.Run(ctx, Command{
		Args:  []string{"sh", "-c", script, "sh", name, fmt.Sprint(size), fmt.Sprintf("%o", mode.Perm())},
		Stdin: content, Limit: NoLimit, Idle: idle,
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// ReadFile returns a file's content. More than MaxOutput bytes are an error.
func ReadFile(ctx context.Context, p Phone, name string) ([]byte, error) {
	return Output(ctx, p, "cat", "--", name)
}

// Limited returns a writer to w that fails after MaxOutput bytes.
func Limited(w io.Writer) io.Writer { return &limited{w: w, left: MaxOutput} }
