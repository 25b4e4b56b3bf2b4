// Package reproducible builds without the results of earlier builds, for
// comparisons that show whether a build is reproducible.
package reproducible

import (
	"context"
	"path/filepath"

	"github.com/sovereign-sql/sov/pipeline/remote"
	"github.com/sovereign-sql/sov/stages"
)

// Build makes the artifact in an empty folder with an empty cache, without the
// network, from an offline bundle. It uses no result of another build. The
// artifact is in Result.Dir, below the folder.
func Build(ctx context.Context, o stages.Options, bundle, folder string, jobs int) (*stages.Result, error) {
	o.Bundle, o.Offline, o.Fresh, o.NoCache, o.UpdateLock = bundle, true, true, false, false
	o.CacheDir, o.LockPath, o.Out = filepath.Join(folder, "cache"), filepath.Join(folder, "sov.lock"), filepath.Join(folder, "out")
	o.Jobs, o.Remotes = jobs, remote.Options{}
	return stages.Build(ctx, o)
}
