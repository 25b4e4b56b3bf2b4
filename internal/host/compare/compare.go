// Package compare compares two artifacts, or two images, byte for byte, and different root file
// systems also path by path (package tree).
package compare

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// A Report is the comparison of two artifacts, A and B.
type Report struct {
	Identical bool     `json:"identical"`       // every compared file is the same, byte for byte
	Files     []File   `json:"files,omitempty"` // of two out folders, or the one pair of images
	Changes   []Change `json:"changes"`         // paths inside the root filesystems
}

// A File is the comparison of one file of two out folders.
type File struct {
	Name   string `json:"name"`
	Status string `json:"status"`       // "identical", "different", "only in A", "only in B"
	At     *int64 `json:"at,omitempty"` // offset of the first byte that differs; only where Status is "different"
}

// A Change is a path at which two root filesystems differ.
type Change struct {
	tree.Change
	At *int64 `json:"at,omitempty"` // offset of the first byte that differs; of regular files with another content only
}

// Artifacts compares two out folders, or two images.
func Artifacts(ctx context.Context, a, b string) (*Report, error) {
	files, err := compareFiles(ctx, a, b)
	if err != nil {
		return nil, err
	}
	report := &Report{Identical: true, Files: files, Changes: []Change{}}
	for _, f := range files {
		report.Identical = report.Identical && f.Status == Identical
	}
	if report.Identical || !slices.ContainsFunc(files, func(f File) bool { return f.Name == artifact.RootfsFile && f.Status == Different }) {
		return report, nil
	}
	report.Changes, err = compareImages(ctx, a, b)
	return report, err
}

// The statuses of a File.
const (
	Identical = "identical"
	Different = "different"
	OnlyInA   = "only in A"
	OnlyInB   = "only in B"
)

// compareFiles compares two folders' files, or two files.
func compareFiles(ctx context.Context, a, b string) ([]File, error) {
	namesA, err := built.Files(a)
	if err != nil {
		return nil, built.NotBuilt(err)
	}
	namesB, err := built.Files(b)
	if err != nil {
		return nil, built.NotBuilt(err)
	}
	if (namesA == nil) != (namesB == nil) {
		return nil, fmt.Errorf("%s and %s are not of a kind: compare two folders or two images", a, b)
	}
	if namesA == nil {
		f, err := compareFile(ctx, artifact.RootfsFile, a, b)
		return []File{f}, err
	}
	var files []File
	for _, name := range union(namesA, namesB) {
		switch {
		case !slices.Contains(namesB, name):
			files = append(files, File{Name: name, Status: OnlyInA})
		case !slices.Contains(namesA, name):
			files = append(files, File{Name: name, Status: OnlyInB})
		default:
			f, err := compareFile(ctx, name, filepath.Join(a, name), filepath.Join(b, name))
			if err != nil {
				return nil, err
			}
			files = append(files, f)
		}
	}
	return files, nil
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// compareFile compares the files of that name in both artifacts, byte for byte.
func compareFile(ctx context.Context, name, a, b string) (File, error) {
	fileA, err := os.Open(a)
	if err != nil {
		return File{}, err
	}
	defer fileA.Close()
	fileB, err := os.Open(b)
	if err != nil {
		return File{}, err
	}
	defer fileB.Close()
	at, err := firstDifference(ctx, fileA, fileB)
	if err != nil || at == nil {
		return File{Name: name, Status: Identical}, err
	}
	return File{name, Different, at}, nil
}

// firstDifference returns the offset of the first byte in which two readers differ, or nil. If one
// is shorter, they differ at its end.
func firstDifference(ctx context.Context, a, b io.Reader) (*int64, error) {
	var offset int64
	bufA, bufB := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		for _, err := range []error{errA, errB} {
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return nil, err
			}
		}
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			for i := range bufA[:min(n, m)] {
				if bufA[i] != bufB[i] {
					offset += int64(i)
					return &offset, nil
				}
			}
			offset += int64(min(n, m))
			return &offset, nil
		}
		if n < len(bufA) {
			return nil, nil
		}
		offset += int64(n)
	}
}

// compareImages compares two root file systems path by path.
func compareImages(ctx context.Context, a, b string) ([]Change, error) {
	imageA, err := built.OpenImage(a)
	if err != nil {
		return nil, err
	}
	defer imageA.Close()
	imageB, err := built.OpenImage(b)
	if err != nil {
		return nil, err
	}
	defer imageB.Close()
	treeA, err := imageA.Tree()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a, err)
	}
	treeB, err := imageB.Tree()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b, err)
	}
	changes, err := tree.Diff(treeA, treeB)
	if err != nil {
		return nil, err
	}
	out := make([]Change, 0, len(changes))
	for _, c := range changes {
		p := Change{Change: c}
		if slices.Contains(c.What, "content") || slices.Contains(c.What, "size") {
			inA, _ := treeA.Lookup(c.Path)
			inB, _ := treeB.Lookup(c.Path)
			if p.At, err = firstDifference(ctx, inA.Content.Open(), inB.Content.Open()); err != nil {
				return nil, fmt.Errorf("%s: %w", c.Path, err)
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// IgnoreUnbuilt removes files that are only in B and that builds do not make, such as a signature.
func (r *Report) IgnoreUnbuilt() {
	var built []File
	r.Identical = true
	for _, f := range r.Files {
		if f.Status == OnlyInB {
			continue
		}
		built = append(built, f)
		r.Identical = r.Identical && f.Status == Identical
	}
	r.Files = built
}
