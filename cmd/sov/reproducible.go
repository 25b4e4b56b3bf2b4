package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/stages"
	"github.com/sovereign-sql/sov/stages/offlinebundle"
	"github.com/sovereign-sql/sov/stages/reproducible"
)

// anewReport is what `sov build --check-reproducible` has to say.
type anewReport struct {
	Identical bool        `json:"identical"`
	Between   string      `json:"between,omitempty"` // which of the artifacts differ
	Diff      *diffReport `json:"diff,omitempty"`
	Kept      string      `json:"kept,omitempty"` // folder with the artifacts that differ
}

// buildsAnew are how the two builds from nothing differ: in all that must not matter.
var buildsAnew = []struct {
	folder string
	jobs   int
}{
	{"one", 0},
	{filepath.Join("another place", "with a longer name"), 1},
}

// checkReproducible builds twice from nothing and compares what comes out, also with the artifact that the build before
// has left in dir. What is from outside is fetched once.
func checkReproducible(ctx context.Context, o stages.Options, dir string) (report *anewReport, err error) {
	work, err := os.MkdirTemp("", "sov-anew-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if report == nil || report.Kept == "" {
			err = errors.Join(err, os.RemoveAll(work))
		}
	}()
	o.UpdateLock = false // it has been, if it was to be
	bundle := filepath.Join(work, "bundle")
	if _, err := offlinebundle.Write(ctx, o.Options, bundle); err != nil {
		return nil, err
	}
	var made []string
	for _, b := range buildsAnew {
		folder := filepath.Join(work, b.folder)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
		result, err := reproducible.Build(ctx, o, bundle, folder, b.jobs)
		if err != nil {
			return nil, fmt.Errorf("build from nothing in %s: %w", folder, err)
		}
		made = append(made, result.Dir)
		if err := os.RemoveAll(filepath.Join(folder, "cache")); err != nil {
			return nil, err
		}
	}
	return compareAnew(work, dir, made)
}

// compareAnew compares the two builds with each other, and the first with what came from the cache.
func compareAnew(work, dir string, made []string) (*anewReport, error) {
	for _, pair := range []struct{ between, a, b string }{
		{"two builds from nothing", made[0], made[1]},
		{"a build from nothing (A) and " + dir + ", which is partly from the cache (B)", made[0], dir},
	} {
		diff, err := compare(pair.a, pair.b)
		if err != nil {
			return nil, err
		}
		if diff.ignoreUnbuilt(); !diff.Identical {
			return &anewReport{Between: pair.between, Diff: diff, Kept: work}, nil
		}
	}
	return &anewReport{Identical: true}, nil
}

// ignoreUnbuilt leaves out what no build has made, such as a signature.
func (r *diffReport) ignoreUnbuilt() {
	var built []fileDiff
	r.Identical = true
	for _, f := range r.Files {
		if f.Status == onlyInB {
			continue
		}
		built = append(built, f)
		r.Identical = r.Identical && f.Status == identical
	}
	r.Files = built
}

func (r *anewReport) print(w io.Writer) error {
	if r.Identical {
		_, err := fmt.Fprintln(w, "reproducible: two builds from nothing and this one are the same, byte for byte")
		return err
	}
	if _, err := fmt.Fprintf(w, "NOT REPRODUCIBLE: %s differ; both are kept below %s\n", r.Between, r.Kept); err != nil {
		return err
	}
	return r.Diff.print(w)
}
