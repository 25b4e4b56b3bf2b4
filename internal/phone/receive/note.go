package receive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/chunk"
	"github.com/sovereign-sql/sov/internal/durable"
)

// A note caches a file's list of chunks, so that the file need not be split again: a line of JSON,
// and the list in the encoding of package chunk. It is valid if it is intact and the file has not
// changed since. A change of the file by a failing disk is detected when the copied data is
// verified.
type note struct {
	Version int    `json:"version"` // chunk.Version
	Size    int64  `json:"size"`    // of the file
	Inode   uint64 `json:"inode"`
	Mtime   int64  `json:"mtime"`  // nanoseconds since 1970
	SHA256  string `json:"sha256"` // of the list
}

// maxNote is the largest note, in bytes: the list of a file of 100 GB.
const maxNote = 1 << 30

func notePath(path string) string {
	return filepath.Join(filepath.Dir(path), ".chunks-"+filepath.Base(path))
}

func noteFor(f *os.File) (note, error) {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return note{}, err
	}
	return note{Version: chunk.Version, Size: s.Size, Inode: s.Ino, Mtime: s.Mtim.Nano()}, nil
}

// keepNote writes a file's note. f is the file, which is not written to any more.
func keepNote(f *os.File, l chunk.List) error {
	n, err := noteFor(f)
	if err != nil {
		return err
	}
	list := l.Append(nil)
	sum := sha256.Sum256(list)
	n.SHA256 = hex.EncodeToString(sum[:])
	head, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return durable.WriteFile(notePath(f.Name()), append(append(head, '\n'), list...), 0o600)
}

// readNote returns the list in a file's note. After an error the file must be split again.
func readNote(f *os.File) (chunk.List, error) {
	want, err := noteFor(f)
	if err != nil {
		return nil, err
	}
	text, err := os.Open(notePath(f.Name()))
	if err != nil {
		return nil, err
	}
	defer text.Close()
	b, err := io.ReadAll(io.LimitReader(text, maxNote))
	if err != nil {
		return nil, err
	}
	head, list, _ := bytes.Cut(b, []byte{'\n'})
	var n note
	if err := json.Unmarshal(head, &n); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(list)
	want.SHA256 = hex.EncodeToString(sum[:])
	if n != want {
		return nil, errors.New("the note belongs to another file")
	}
	return chunk.ReadList(bytes.NewReader(list), n.Size)
}

// listOf returns a file's chunks, from its note if that is valid. keep writes a note.
func listOf(f *os.File, fresh, keep bool) (chunk.List, error) {
	if !fresh {
		if l, err := readNote(f); err == nil {
			return l, nil
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	l, err := chunk.ListOf(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if keep {
		// On a full phone the note is not written.
		if err := keepNote(f, l); err != nil && !errors.Is(err, unix.ENOSPC) {
			return nil, err
		}
	}
	return l, nil
}
