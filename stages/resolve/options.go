package resolve

import (
	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/remote"
)

// Options describe the recipe to resolve and the sources of its inputs.
type Options struct {
	Recipe     *recipe.Recipe // see stages.LoadRecipe
	RecipeText []byte         // its source, whose digest the manifest names
	Arch       string         // "arm64" or "amd64"

	LockPath   string         // lock file to read and write; empty: resolve without a lock file
	UpdateLock bool           // resolve again even if the lock has an entry
	Bundle     string         // a file written by sov bundle; its contents are used before the network. Its lock is used when LockPath has no entry
	BundleKey  dsse.PublicKey // the key that must have signed Bundle; nil: no signature required
	Offline    bool           // do not use the network; what is not in the cache is an error
	CacheDir   string         // directory of the store
	// Remotes are the remote caches. The package sets their Warn.
	Remotes remote.Options
	Jobs    int // stages at a time; 0: as many as there are processors

	// These override the recipe.
	Image        string   // base image reference
	Repositories []string // package repositories, in place of the recipe's
	Kernel       string   // a finished kernel image to use instead of building one
	KernelSource string   // path, URL or deb:NAME of the kernel's source

	Reporter progress.Reporter // nil: silent
}
