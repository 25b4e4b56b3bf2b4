package stages

import (
	"fmt"
	"slices"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/base"
	"github.com/sovereign-sql/sov/stages/bundle"
	"github.com/sovereign-sql/sov/stages/formats"
	"github.com/sovereign-sql/sov/stages/guestinit"
	"github.com/sovereign-sql/sov/stages/kernel"
	"github.com/sovereign-sql/sov/stages/overlay"
	"github.com/sovereign-sql/sov/stages/packages"
	"github.com/sovereign-sql/sov/stages/postgres"
	"github.com/sovereign-sql/sov/stages/rootfs"
	"github.com/sovereign-sql/sov/stages/runner"
	"github.com/sovereign-sql/sov/stages/tailscale"
)

// graph makes the stages of a build of what an entry pins, with a program for
// the guest and one for the phone.
//
// The order of the list is the order in which shares are laid over each other,
// in which stages are shown, and in which they start where there is a choice.
// The kernel, which takes longest, comes first. Tailscale takes minutes, too;
// the base image and the packages, which its files lie on, take seconds.
func (b *builder) graph(entry *lock.Entry, guest, phone []byte) []pipeline.Stage {
	base := b.base(entry)
	packages := b.packages(entry)
	below := overlay.Shares(base, packages)
	list := []pipeline.Stage{b.kernelStage(entry), base, packages}

	init := guestinit.New(guestinit.Options{Below: below, Program: guest, Recipe: b.Recipe})
	programs := overlay.Shares(init)
	if b.Recipe.Tailscale.Enabled {
		st := tailscale.New(tailscale.Options{Arch: b.Arch, Offline: b.Offline, Fresh: b.Fresh, Bundle: b.supplies})
		list = append(list, st)
		programs = append(programs, overlay.Shares(st)...)
	}
	list = append(list, init)
	if b.Recipe.Postgres.Enabled {
		list = append(list, postgres.New(postgres.Options{Below: below, Recipe: b.Recipe}))
	}
	list = append(list, runner.New(runner.Options{Program: phone}))
	made := *entry
	if b.Kernel != "" {
		made.Kernel = nil // the lock may name a source, which is not what this kernel was made from
	}
	list = append(list,
		rootfs.New(rootfs.Options{Label: b.Recipe.Rootfs.Label, Free: b.Recipe.Rootfs.Free, Shares: overlay.Shares(list...)}),
		bundle.New(bundle.Options{Recipe: b.Recipe, RecipeText: b.RecipeText, Arch: b.Arch, Made: made, Builder: b.Builder, Programs: programs}))
	return append(list, formats.Stages(b.Formats)...)
}

// checkTaken returns an error for a stage whose outputs go nowhere. Such a
// stage most likely lacks its declaration as a share.
func checkTaken(list []pipeline.Stage, deliver []string) error {
	taken := slices.Clone(deliver)
	for _, st := range list {
		taken = append(taken, st.Needs()...)
	}
	for _, st := range list {
		if !slices.Contains(taken, st.Name()) {
			return fmt.Errorf("stage %s: no stage needs its outputs and the build does not deliver them: if they are files of the root file system, "+
				"its constructor must return an overlay.Share, and the stage must stand before %s in the graph", st.Name(), rootfs.Name)
		}
	}
	return nil
}

func (b *builder) base(entry *lock.Entry) pipeline.Stage {
	return base.New(base.Options{Reference: b.image, Digest: entry.Image.Digest, Arch: b.Arch, Images: b.images, Bundle: b.supplies})
}

func (b *builder) packages(entry *lock.Entry) pipeline.Stage {
	return packages.New(packages.Options{Below: overlay.Shares(b.base(entry)), Packages: entry.Packages, Removed: entry.Removed, Install: b.Recipe.Packages.Install,
		Scripts: b.Recipe.Packages.Scripts, Arch: b.Arch, Client: b.client, Bundle: b.supplies})
}

func (b *builder) kernelStage(entry *lock.Entry) pipeline.Stage {
	o := kernel.Options{Arch: b.Arch, Prebuilt: b.Kernel, Fetch: b.client, Bundle: b.supplies}
	if entry.Kernel != nil {
		o.Source = *entry.Kernel
	}
	return kernel.New(o)
}
