// Package reproducible builds an artifact twice more with empty caches and compares the results,
// using packages stages and compare.
package reproducible

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/host/compare"
	"github.com/sovereign-sql/sov/pipeline/remote"
	"github.com/sovereign-sql/sov/stages"
	"github.com/sovereign-sql/sov/stages/offlinebundle"
)

// A Report is the result of Check.
type Report struct {
	Identical bool            `json:"identical"`
	Between   string          `json:"between,omitempty"` // which of the artifacts differ
	Diff      *compare.Report `json:"diff,omitempty"`
	Kept      string          `json:"kept,omitempty"` // folder with the artifacts that differ
}

// rebuilds are the environments of the two builds. They differ in everything that must not affect
// the result.
var rebuilds = []struct {
	folder string
	jobs   int
}{
	{"one", 0},
	{filepath.Join("another place", "with a longer name"), 1},
}

// Check builds twice with empty caches, and compares the two results with each other and with dir,
// the artifact of the previous build. Sources are downloaded once.
func Check(ctx context.Context, o stages.Options, dir string) (report *Report, err error) {
	work, err := os.MkdirTemp("", "sov-reproduce-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if report == nil || report.Kept == "" {
			err = errors.Join(err, os.RemoveAll(work))
		}
	}()
	o.UpdateLock = false // the previous build has updated it if it was requested
	bundle := filepath.Join(work, "bundle")
	if _, err := offlinebundle.Write(ctx, o.Options, bundle, nil); err != nil {
		return nil, err
	}
	var made []string
	for _, b := range rebuilds {
		folder := filepath.Join(work, b.folder)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
		result, err := build(ctx, o, bundle, folder, b.jobs)
		if err != nil {
			return nil, fmt.Errorf("build from nothing in %s: %w", folder, err)
		}
		made = append(made, result.Dir)
		if err := os.RemoveAll(filepath.Join(folder, "cache")); err != nil {
			return nil, err
		}
	}
	return compareAll(ctx, work, dir, made)
}

// build builds the artifact in an empty folder with an empty cache, without the network, from an
// offline bundle. It uses no result of another build. The artifact is in Result.Dir, below the
// folder.
func build(ctx context.Context, o stages.Options, bundle, folder string, jobs int) (*stages.Result, error) {
	o.Bundle, o.Offline, o.Fresh, o.NoCache, o.UpdateLock = bundle, true, true, false, false
	o.CacheDir, o.LockPath, o.Out = filepath.Join(folder, "cache"), filepath.Join(folder, "sov.lock"), filepath.Join(folder, "out")
	o.Jobs, o.Remotes = jobs, remote.Options{}
	return stages.Build(ctx, o)
}

// compareAll compares the two builds with each other, and the first with the artifact that was
// built with the cache.
func compareAll(ctx context.Context, work, dir string, made []string) (*Report, error) {
	for _, pair := range []struct{ between, a, b string }{
		{"two builds from nothing", made[0], made[1]},
		{"a build from nothing (A) and " + dir + ", which is partly from the cache (B)", made[0], dir},
	} {
		diff, err := compare.Artifacts(ctx, pair.a, pair.b)
		if err != nil {
			return nil, err
		}
		if diff.IgnoreUnbuilt(); !diff.Identical {
			return &Report{Between: pair.between, Diff: diff, Kept: work}, nil
		}
	}
	return &Report{Identical: true}, nil
}
