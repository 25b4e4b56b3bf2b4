package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// diffReport is what `sov diff --json` prints.
type diffReport struct {
	Identical bool         `json:"identical"`       // every compared file is the same, byte for byte
	Files     []fileDiff   `json:"files,omitempty"` // of two out folders, or the one pair of images
	Changes   []pathChange `json:"changes"`         // paths inside the root filesystems
}

// fileDiff compares one file of two out folders.
type fileDiff struct {
	Name   string `json:"name"`
	Status string `json:"status"`       // "identical", "different", "only in A", "only in B"
	At     *int64 `json:"at,omitempty"` // offset of the first byte that differs; only where Status is "different"
}

// pathChange is a path at which two root filesystems differ.
type pathChange struct {
	tree.Change
	At *int64 `json:"at,omitempty"` // offset of the first byte that differs; of regular files with another content only
}

func newDiff() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two builds, or two images, path by path",
		Long: `Compare two out folders, or two ext4 images. Files are compared byte for byte; where the root filesystems differ,
the paths inside them are listed: added (+), removed (-) and changed (~, with what changed: content, size, mode, owner,
time, target, device, xattrs, links, type). Where contents differ, the offset of the first byte that does is named.

Exit status: 0 when they are identical, 3 when they differ.`,
		Example: `  sov diff out/sql/arm64 ../other/out/sql/arm64
  sov diff old.img new.img --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			report, err := compare(args[0], args[1])
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(c.OutOrStdout(), report)
			} else {
				err = report.print(c.OutOrStdout())
			}
			if err == nil && !report.Identical {
				err = &foundError{fmt.Sprintf("%s and %s differ", args[0], args[1])}
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func compare(a, b string) (*diffReport, error) {
	files, err := compareFiles(a, b)
	if err != nil {
		return nil, err
	}
	report := &diffReport{Identical: true, Files: files, Changes: []pathChange{}}
	for _, f := range files {
		report.Identical = report.Identical && f.Status == identical
	}
	if report.Identical || !slices.ContainsFunc(files, func(f fileDiff) bool { return isRootfs(f.Name) && f.Status == different }) {
		return report, nil
	}
	report.Changes, err = compareImages(a, b)
	return report, err
}

const (
	identical = "identical"
	different = "different"
	onlyInA   = "only in A"
	onlyInB   = "only in B"
)

// compareFiles compares two folders' files, or two files.
func compareFiles(a, b string) ([]fileDiff, error) {
	namesA, err := filesIn(a)
	if err != nil {
		return nil, err
	}
	namesB, err := filesIn(b)
	if err != nil {
		return nil, err
	}
	if (namesA == nil) != (namesB == nil) {
		return nil, fmt.Errorf("%s and %s are not of a kind: compare two folders or two images", a, b)
	}
	if namesA == nil {
		f, err := compareFile(rootfsName, a, b)
		return []fileDiff{f}, err
	}
	var files []fileDiff
	for _, name := range union(namesA, namesB) {
		switch {
		case !slices.Contains(namesB, name):
			files = append(files, fileDiff{Name: name, Status: onlyInA})
		case !slices.Contains(namesA, name):
			files = append(files, fileDiff{Name: name, Status: onlyInB})
		default:
			f, err := compareFile(name, filepath.Join(a, name), filepath.Join(b, name))
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

// filesIn lists the regular files of a folder; nil when the path is a file.
func filesIn(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return nil, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// compareFile compares two files byte for byte.
func compareFile(name, a, b string) (fileDiff, error) {
	fileA, err := os.Open(a)
	if err != nil {
		return fileDiff{}, err
	}
	defer fileA.Close()
	fileB, err := os.Open(b)
	if err != nil {
		return fileDiff{}, err
	}
	defer fileB.Close()
	at, err := firstDifference(fileA, fileB)
	if err != nil || at == nil {
		return fileDiff{Name: name, Status: identical}, err
	}
	return fileDiff{name, different, at}, nil
}

// firstDifference returns the offset of the first byte in which two readers differ, or nil. One that ends earlier differs
// where it ends.
func firstDifference(a, b io.Reader) (*int64, error) {
	var offset int64
	bufA, bufB := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
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

func compareImages(a, b string) ([]pathChange, error) {
	imageA, err := openImage(a)
	if err != nil {
		return nil, err
	}
	defer imageA.Close()
	imageB, err := openImage(b)
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
	out := make([]pathChange, 0, len(changes))
	for _, c := range changes {
		p := pathChange{Change: c}
		if slices.Contains(c.What, "content") || slices.Contains(c.What, "size") {
			inA, _ := treeA.Lookup(c.Path)
			inB, _ := treeB.Lookup(c.Path)
			if p.At, err = firstDifference(inA.Content.Open(), inB.Content.Open()); err != nil {
				return nil, fmt.Errorf("%s: %w", c.Path, err)
			}
		}
		out = append(out, p)
	}
	return out, err
}

func (r *diffReport) print(w io.Writer) error {
	if r.Identical {
		_, err := fmt.Fprintln(w, identical)
		return err
	}
	for _, f := range r.Files {
		if _, err := fmt.Fprintf(w, "%-10s %s%s\n", f.Status, f.Name, atByte(f.At)); err != nil {
			return err
		}
	}
	signs := map[string]string{"added": "+", "removed": "-", "changed": "~"}
	for _, change := range r.Changes {
		line := signs[change.Kind] + " " + shown("/"+change.Path)
		if len(change.What) > 0 {
			line += " (" + strings.Join(change.What, ", ") + ")"
		}
		if _, err := fmt.Fprintln(w, line+atByte(change.At)); err != nil {
			return err
		}
	}
	return nil
}

func atByte(at *int64) string {
	if at == nil {
		return ""
	}
	return fmt.Sprintf(", from byte %d on", *at)
}
