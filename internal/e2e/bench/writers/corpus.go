package writers

import (
	"archive/tar"
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"
)

// A Corpus is a tar from which images are made.
type Corpus struct {
	Path    string // of the tar
	Bytes   int64  // of file contents
	Files   int
	Dirs    int
	Entries int // all kinds
}

// The shape of the tree at scale 1. It resembles a root file system with a database server: 131 MB
// in about 6,300 entries.
const (
	corpusDirs     = 700
	corpusFiles    = 5230
	corpusSymlinks = 410
	fileLargest    = 24 << 20
)

// WriteCorpus writes a tar of the tree at scale 1. It contains what all writers support:
// directories, files and symbolic links.
func WriteCorpus(path string) (Corpus, error) {
	f, err := os.Create(path)
	if err != nil {
		return Corpus{}, err
	}
	defer f.Close()
	buffered := bufio.NewWriterSize(f, 1<<20)
	w := tar.NewWriter(buffered)
	corpus, err := eachEntry(1, func(h *tar.Header, seed [32]byte) error {
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.CopyN(w, rand.NewChaCha8(seed), h.Size)
		return err
	})
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		return Corpus{}, fmt.Errorf("write corpus %s: %w", path, err)
	}
	corpus.Path = path
	return corpus, nil
}

// eachEntry calls fn with the entries of scale trees. A file's bytes are generated from seed.
func eachEntry(scale int, fn func(h *tar.Header, seed [32]byte) error) (Corpus, error) {
	g := generator{fn: fn, random: rand.New(rand.NewPCG(1, 2))}
	for i := range scale {
		g.tree(fmt.Sprintf("part%02d", i))
	}
	return g.corpus, g.err
}

// A generator creates entries until the first error.
type generator struct {
	fn     func(h *tar.Header, seed [32]byte) error
	random *rand.Rand
	corpus Corpus
	err    error
}

func (g *generator) tree(root string) {
	g.entry(&tar.Header{Typeflag: tar.TypeDir, Name: root + "/", Mode: 0o755})
	dirs := []string{root}
	for i := range corpusDirs - 1 {
		dir := fmt.Sprintf("%s/directory%d", dirs[g.random.IntN(min(len(dirs), 60))], i)
		g.entry(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755})
		dirs = append(dirs, dir)
	}
	perDir := corpusFiles / corpusDirs
	n := 0
	for _, dir := range dirs {
		for range perDir {
			g.file(fmt.Sprintf("%s/file-number-%d.ext", dir, n), g.size(n))
			n++
		}
	}
	for ; n < corpusFiles; n++ {
		g.file(fmt.Sprintf("%s/last-%d", root, n), g.size(n))
	}
	for i := range corpusSymlinks {
		g.entry(&tar.Header{Typeflag: tar.TypeSymlink, Name: fmt.Sprintf("%s/link%d", dirs[i], i), Linkname: "file-number", Mode: 0o777})
	}
}

// size returns the size of file n. Most files are small; a few make up half of the bytes.
func (g *generator) size(n int) int {
	switch {
	case n == 100:
		return fileLargest
	case n%1000 == 7:
		return 6 << 20
	case n%100 == 3:
		return 256<<10 + g.random.IntN(512<<10)
	case n%10 < 3:
		return 8<<10 + g.random.IntN(40<<10)
	}
	return g.random.IntN(8 << 10)
}

func (g *generator) file(name string, size int) {
	g.corpus.Files++
	g.corpus.Bytes += int64(size)
	g.entry(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(size), Mode: 0o644})
}

func (g *generator) entry(h *tar.Header) {
	if g.err != nil {
		return
	}
	g.corpus.Entries++
	if h.Typeflag == tar.TypeDir {
		g.corpus.Dirs++
	}
	h.ModTime = time.Unix(1700000000, 0)
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(g.corpus.Files))
	g.err = g.fn(h, seed)
}
