package stages

import (
	"context"
	"path/filepath"

	"github.com/sovereign-sql/sov/pipeline/remote"
)

// BuildAnew makes the artifact in an empty folder with an empty cache, without
// the network, of what a bundle has: nothing that another build made counts.
// The artifact is in Result.Dir, below the folder.
func BuildAnew(ctx context.Context, o Options, bundle, folder string, jobs int) (*Result, error) {
	o.Bundle, o.Offline, o.Anew, o.NoCache, o.UpdateLock = bundle, true, true, false, false
	o.CacheDir, o.LockPath, o.Out = filepath.Join(folder, "cache"), filepath.Join(folder, "sov.lock"), filepath.Join(folder, "out")
	o.Jobs, o.Remotes = jobs, remote.Options{}
	return Build(ctx, o)
}
