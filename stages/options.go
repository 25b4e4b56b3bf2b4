// Package stages composes a build: it reads a recipe, resolves it to a lock entry (package
// resolve), makes the graph of stages, runs it (package pipeline), and exports the artifact
// (package export).
//
// Each stage is a package below this one. It knows other stages only by the
// names of the outputs that it reads:
//
//	base        layer-NNN.tar, image.json         the base image
//	packages    NAME-VERSION.tar, db.tar, ...     Alpine packages
//	image-N     as base                           images that files are copied from
//	copies      copies.tar                        these files
//	tailscale   tailscale.tar
//	guestinit   guestinit.tar                     sov-init, accounts, directories
//	files       files.tar                         the recipe's files
//	postgres    postgres.tar, postgres.json       PostgreSQL's settings and service
//	kernel      kernel, config, kernel.json
//	rootfs      rootfs.img, rootfs.json           all of the above but the kernel, as ext4
//	bundle      the files of the artifact
//	module      sov-NAME.zip                      for root managers; on demand
//	simg        rootfs.simg                       Android sparse; on demand
//	raw.zst     rootfs.img.zst                    on demand
//	disk        disk.img                          boots under UEFI; on demand
//
// To add a stage, write its package and add it to the graph. If it puts files into the root file
// system, its constructor returns an overlay.Share, and its position in the graph's list decides
// the order of application. If not, another stage names it in Needs. A stage whose outputs are not
// used fails the build.
//
// Other packages below this one are not stages: stages share overlay and output; resolve, export,
// formats and offlinebundle are steps around a build.
package stages

import (
	"context"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/export"
	"github.com/sovereign-sql/sov/stages/resolve"
)

// Options describe a build: its recipe, its inputs and its outputs.
type Options struct {
	resolve.Options

	NoCache bool // run every stage
	Fresh   bool // do not use the caches of compilers

	// Formats lists additional formats of the artifact, see formats.Names.
	Formats []string

	// Out is the folder for artifacts: the build exports to OUT/NAME/ARCH. Empty: no export.
	Out string

	Builder string // sov's version, for the provenance
	// Program returns sov's program for the guest ("sov-init") or the phone ("sov-runner") for an
	// architecture.
	Program func(ctx context.Context, name, arch string) ([]byte, error)
}

// A Result is the outcome of a build.
type Result struct {
	*pipeline.Result
	Dir         string        // the exported artifact; empty without Options.Out
	Lock        *lock.Entry   // the pinned inputs of the build
	LockWritten bool          // Options.LockPath has new content
	Exported    []export.File // sorted by name; empty without Options.Out
	Elapsed     time.Duration // resolving and exporting included
}
