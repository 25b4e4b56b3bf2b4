package store

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A stamp holds the fields of stat(2) that change whenever a file's content changes. The zero stamp
// matches no file.
type stamp struct {
	size         int64
	inode        uint64
	mtime, ctime int64 // ns since 1970
}

func stampOf(f *os.File) (stamp, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return stamp{}, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return stampOfStat(&st), nil
}

func stampOfStat(st *unix.Stat_t) stamp {
	return stamp{st.Size, st.Ino, st.Mtim.Nano(), st.Ctim.Nano()}
}

const stampFormat = "1 size=%d inode=%d mtime=%d ctime=%d\n"

func (st stamp) String() string {
	return fmt.Sprintf(stampFormat, st.size, st.inode, st.mtime, st.ctime)
}

func parseStamp(text string) stamp {
	var st stamp
	fmt.Sscanf(text, stampFormat, &st.size, &st.inode, &st.mtime, &st.ctime)
	if st.String() != text {
		return stamp{}
	}
	return st
}

func (s *Store) readStamp(d Digest) stamp {
	b, err := readOwn(s.stampPath(d))
	if err != nil {
		return stamp{}
	}
	return parseStamp(string(b))
}

// writeStamp records that a blob was verified. A lost or damaged stamp only costs another hashing,
// so it is not synced and errors are ignored.
func (s *Store) writeStamp(d Digest, st stamp) {
	path := s.stampPath(d)
	os.Mkdir(filepath.Dir(path), 0o755)
	if info, err := os.Lstat(path); err == nil {
		if why, _ := foreign(info); why != "" {
			os.Remove(path)
		}
	}
	os.WriteFile(path, []byte(st.String()), 0o644)
}
