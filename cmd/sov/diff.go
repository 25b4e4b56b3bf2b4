package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/tree"
)

// diffReport is what `sov diff --json` prints.
type diffReport struct {
	Identical bool          `json:"identical"`       // every compared file is the same, byte for byte
	Files     []fileDiff    `json:"files,omitempty"` // of two out folders, or the one pair of images
	Changes   []tree.Change `json:"changes"`         // paths inside the root filesystems
}

// fileDiff compares one file of two out folders.
type fileDiff struct {
	Name   string `json:"name"`
	Status string `json:"status"` // "identical", "different", "only in A", "only in B"
}

func newDiff() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two builds, or two images, path by path",
		Long: `Compare two out folders, or two ext4 images. Files are compared byte for byte; where the root filesystems differ,
the paths inside them are listed: added (+), removed (-) and changed (~, with what changed: content, size, mode, owner,
time, target, device, xattrs, links, type).

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
	report := &diffReport{Identical: true, Files: files, Changes: []tree.Change{}}
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
		same, err := sameFile(a, b)
		return []fileDiff{{Name: rootfsName, Status: status(same)}}, err
	}
	var files []fileDiff
	for _, name := range union(namesA, namesB) {
		switch {
		case !slices.Contains(namesB, name):
			files = append(files, fileDiff{name, onlyInA})
		case !slices.Contains(namesA, name):
			files = append(files, fileDiff{name, onlyInB})
		default:
			same, err := sameFile(filepath.Join(a, name), filepath.Join(b, name))
			if err != nil {
				return nil, err
			}
			files = append(files, fileDiff{name, status(same)})
		}
	}
	return files, nil
}

func status(same bool) string {
	if same {
		return identical
	}
	return different
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

func sameFile(a, b string) (bool, error) {
	contentA, closeA, err := openContent(a)
	if err != nil {
		return false, err
	}
	defer closeA()
	contentB, closeB, err := openContent(b)
	if err != nil {
		return false, err
	}
	defer closeB()
	return tree.SameContent(contentA, contentB)
}

func openContent(path string) (tree.Content, func() error, error) {
	f, err := os.Open(path)
	if err != nil {
		return tree.Content{}, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return tree.Content{}, nil, err
	}
	return tree.Section(f, 0, info.Size()), f.Close, nil
}

func compareImages(a, b string) ([]tree.Change, error) {
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
	return tree.Diff(treeA, treeB)
}

func (r *diffReport) print(w io.Writer) error {
	if r.Identical {
		_, err := fmt.Fprintln(w, identical)
		return err
	}
	for _, f := range r.Files {
		if _, err := fmt.Fprintf(w, "%-10s %s\n", f.Status, f.Name); err != nil {
			return err
		}
	}
	signs := map[string]string{"added": "+", "removed": "-", "changed": "~"}
	for _, change := range r.Changes {
		line := signs[change.Kind] + " " + shown("/"+change.Path)
		if len(change.What) > 0 {
			line += " (" + strings.Join(change.What, ", ") + ")"
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
