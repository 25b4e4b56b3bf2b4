package stages

import (
	"slices"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/base"
	"github.com/sovereign-sql/sov/stages/bundle"
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
// the guest and one for the phone. The order is that in which they are shown,
// and started where there is a choice: the long ones first.
func (b *builder) graph(entry *lock.Entry, guest, phone []byte) []pipeline.Stage {
	list := []pipeline.Stage{b.kernelStage(entry)}
	programs := []string{guestinit.Name}
	if b.Recipe.Tailscale.Enabled {
		list = append(list, tailscale.New(tailscale.Options{Arch: b.Arch, Offline: b.Offline, Anew: b.Anew, Supplies: b.supplies}))
		programs = append(programs, tailscale.Name)
	}
	list = append(list,
		b.base(entry),
		b.packages(entry),
		guestinit.New(guestinit.Options{Program: guest, Recipe: b.Recipe}))
	if b.Recipe.Postgres.Enabled {
		list = append(list, postgres.New(postgres.Options{Recipe: b.Recipe}))
	}
	list = append(list, runner.New(runner.Options{Program: phone}))
	made := *entry
	if b.Kernel != "" {
		made.Kernel = nil // the lock may name a source, which is not what this kernel was made from
	}
	list = append(list,
		rootfs.New(rootfs.Options{Label: b.Recipe.Rootfs.Label, Free: b.Recipe.Rootfs.Free, Shares: shares(list)}),
		bundle.New(bundle.Options{Recipe: b.Recipe, RecipeText: b.RecipeText, Arch: b.Arch, Made: made, Builder: b.Builder, Programs: programs}))
	for _, f := range formatList {
		if slices.Contains(b.Formats, f.name) {
			list = append(list, f.stage())
		}
	}
	return list
}

func (b *builder) base(entry *lock.Entry) pipeline.Stage {
	return base.New(base.Options{Reference: b.image, Digest: entry.Image.Digest, Arch: b.Arch, Images: b.images, Supplies: b.supplies})
}

func (b *builder) packages(entry *lock.Entry) pipeline.Stage {
	return packages.New(packages.Options{Packages: entry.Packages, Removed: entry.Removed, Install: b.Recipe.Packages.Install,
		Scripts: b.Recipe.Packages.Scripts, Arch: b.Arch, Client: b.client, Supplies: b.supplies})
}

func (b *builder) kernelStage(entry *lock.Entry) pipeline.Stage {
	o := kernel.Options{Arch: b.Arch, Prebuilt: b.Kernel, Fetch: b.client, Supplies: b.supplies}
	if entry.Kernel != nil {
		o.Source = *entry.Kernel
	}
	return kernel.New(o)
}

// shares are those of the stages that put something into the root file system,
// in the order in which it is applied.
func shares(list []pipeline.Stage) []string {
	var out []string
	for _, name := range overlay.Order {
		for _, st := range list {
			if st.Name() == name {
				out = append(out, name)
			}
		}
	}
	return out
}
