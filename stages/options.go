// Package stages puts a build together: it reads a recipe, resolves what the
// recipe leaves open or takes that from the lock, makes the graph of stages,
// has package pipeline run it, and exports the artifact.
//
// Each stage is a package of its own below this one and knows nothing of the
// others but the names of the outputs it reads:
//
//	base        layer-NNN.tar, image.json         the base image
//	packages    NAME-VERSION.tar, db.tar, ...     Alpine packages
//	tailscale   tailscale.tar
//	guestinit   guestinit.tar                     sov-init, accounts, directories
//	postgres    postgres.tar, postgres.json       PostgreSQL's settings and service
//	kernel      kernel, config, kernel.json
//	rootfs      rootfs.img, rootfs.json           all of the above but the kernel, as ext4
//	bundle      the files of the artifact
//	module      sov-NAME.zip                      for root managers; when asked for
//	simg        rootfs.simg                       Android sparse; when asked for
//	raw.zst     rootfs.img.zst                    when asked for
//
// To add a stage, write its package, give it to Graph, and have rootfs or
// bundle read its outputs.
package stages

import (
	"time"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/remote"
)

// Options are what a build is asked for.
type Options struct {
	Recipe     *recipe.Recipe // see LoadRecipe
	RecipeText []byte         // its source, whose digest the manifest names
	Arch       string         // "arm64" or "amd64"

	LockPath   string // lock file, read and written; empty: resolve and keep nothing
	UpdateLock bool   // resolve anew even if the lock has an answer
	Bundle     string // file of WriteBundle, asked before the network; its lock counts where LockPath has no entry
	Offline    bool   // ask no network; what is not in the cache fails
	NoCache    bool   // run every stage
	Anew       bool   // compile with compilers' own caches empty, too
	CacheDir   string // directory of the store
	// Remotes are asked for what the store does not have, and given what the
	// build makes. Their Warn is set here.
	Remotes remote.Options
	Jobs    int // stages at a time; 0: as many as there are processors

	// These override the recipe.
	Image        string   // base image reference
	Repositories []string // package repositories, in place of the recipe's
	Kernel       string   // a finished kernel image to take instead of building one
	KernelSource string   // path, URL or deb:NAME of the kernel's source

	// Formats are other forms of the artifact that are made too, see Formats.
	Formats []string

	// Out is the folder for artifacts: the build exports to OUT/NAME/ARCH. Empty: no export.
	Out string

	Builder  string            // sov's version, for the provenance
	Reporter progress.Reporter // nil: silent
	// Program returns one of the programs that run elsewhere, "sov-init" or "sov-runner", for an architecture.
	Program func(name, arch string) ([]byte, error)
}

// A Result is what a build did.
type Result struct {
	*pipeline.Result
	Dir         string         // the exported artifact; empty without Options.Out
	Lock        *lock.Entry    // what the build was made of
	LockWritten bool           // Options.LockPath has new content
	Exported    []ExportedFile // in the order of their names; empty without Options.Out
	Elapsed     time.Duration  // resolving and exporting included
}

// An ExportedFile is a file of the artifact.
type ExportedFile struct {
	Name string
	pipeline.Blob
	Changed bool // it was not there, or not the same, before
}
