package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/stages/disk"
)

// disk compares a disk image, if there is one, with the image that the artifact's files result in.
// The manifest and the signature do not list it, but cover it by this comparison.
func (r *Report) disk(ctx context.Context) error {
	path := filepath.Join(r.Dir, artifact.DiskFile)
	image, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer image.Close()
	r.Checks = append(r.Checks, "the disk image against the artifact's files")
	made, err := os.CreateTemp("", "sov-verify-")
	if err != nil {
		return err
	}
	defer os.Remove(made.Name())
	defer made.Close()
	err = disk.Write(ctx, made, func(name string) (*os.File, error) { return os.Open(filepath.Join(r.Dir, name)) })
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		r.found(artifact.DiskFile, "cannot be compared: %v", err)
		return nil
	}
	at, err := firstDifference(ctx, image, made)
	switch {
	case err != nil:
		return fmt.Errorf("compare %s: %w", path, err)
	case at >= 0:
		r.found(artifact.DiskFile, "differs from what this sov makes of the artifact's files, first at byte %d: build it again", at)
	default:
		r.Uncovered = slices.DeleteFunc(r.Uncovered, func(name string) bool { return name == artifact.DiskFile })
	}
	return nil
}

// firstDifference returns the offset of the first difference of two files, or -1.
func firstDifference(ctx context.Context, a, b *os.File) (int64, error) {
	var sizes [2]int64
	for i, f := range []*os.File{a, b} {
		info, err := f.Stat()
		if err != nil {
			return 0, err
		}
		sizes[i] = info.Size()
	}
	one, two := make([]byte, 1<<20), make([]byte, 1<<20)
	end := min(sizes[0], sizes[1])
	for at := int64(0); at < end; at += int64(len(one)) {
		if err := context.Cause(ctx); err != nil {
			return 0, err
		}
		n := min(int64(len(one)), end-at)
		one, two = one[:n], two[:n]
		for b, f := range map[*[]byte]*os.File{&one: a, &two: b} {
			if _, err := f.ReadAt(*b, at); err != nil {
				return 0, err
			}
		}
		if !bytes.Equal(one, two) {
			i := 0
			for one[i] == two[i] {
				i++
			}
			return at + int64(i), nil
		}
	}
	if sizes[0] != sizes[1] {
		return end, nil
	}
	return -1, nil
}
