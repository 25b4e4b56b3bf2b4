package stages

import (
	"github.com/sovereign-sql/sov/internal/contract/lock"
	guestkernel "github.com/sovereign-sql/sov/kernel"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/bundle"
	"github.com/sovereign-sql/sov/stages/copies"
	"github.com/sovereign-sql/sov/stages/formats"
	"github.com/sovereign-sql/sov/stages/goprogram"
	"github.com/sovereign-sql/sov/stages/guestinit"
	"github.com/sovereign-sql/sov/stages/kernel"
	"github.com/sovereign-sql/sov/stages/overlay"
	"github.com/sovereign-sql/sov/stages/postgres"
	"github.com/sovereign-sql/sov/stages/resolve"
	"github.com/sovereign-sql/sov/stages/rootfs"
	"github.com/sovereign-sql/sov/stages/runner"
	"github.com/sovereign-sql/sov/stages/tailscale"
)

// graph returns the stages of a build of a lock entry. guest is the program sov-init, phone the
// program sov-runner.
//
// The order of the list decides the order in which shares are applied, stages are displayed, and
// ready stages start. The kernel, which takes longest, comes first. Tailscale also takes minutes;
// the base image and the packages, on which its share depends, take seconds.
func graph(o Options, r *resolve.Resolver, entry *lock.Entry, guest, phone []byte) []pipeline.Stage {
	base, packages := r.Base(entry), r.Packages(entry)
	below := overlay.Shares(base, packages)
	list := []pipeline.Stage{kernelStage(r, entry), base, packages}
	if images := r.Copied(entry); len(images) > 0 {
		for _, image := range images {
			list = append(list, image.Stage)
		}
		list = append(list, copies.New(copies.Options{Images: images, References: r.Recipe.CopiedImages(), Copies: r.Recipe.Copy}))
	}

	init := guestinit.New(guestinit.Options{Below: below, Program: guest, Recipe: r.Recipe})
	programs := overlay.Shares(init) // their order is part of the bundle's key
	if r.Recipe.Tailscale.Enabled {
		st := tailscale.New(tailscale.Options{Arch: r.Arch, Offline: r.Offline, Fresh: o.Fresh, Bundle: r.OfflineBundle,
			Certificates: r.Recipe.Postgres.TailnetCertificate()})
		list = append(list, st)
		programs = append(programs, overlay.Shares(st)...)
	}
	if len(r.Recipe.Go) > 0 {
		options := r.GoPrograms(entry)
		options.Fresh = o.Fresh
		st := goprogram.New(options)
		list = append(list, st)
		programs = append(programs, overlay.Shares(st)...)
	}
	list = append(list, init)
	if len(r.Recipe.Files) > 0 {
		list = append(list, r.Files(entry))
	}
	if r.Recipe.Postgres.Enabled {
		list = append(list, postgres.New(postgres.Options{Below: below, Recipe: r.Recipe}))
	}

	list = append(list,
		runner.New(runner.Options{Program: phone}),
		rootfs.New(rootfs.Options{Arch: r.Arch, Label: r.Recipe.Rootfs.Label, Free: r.Recipe.Rootfs.Free, Shares: overlay.Shares(list...)}),
		bundle.New(bundle.Options{Recipe: r.Recipe, RecipeText: r.RecipeText, Arch: r.Arch, Made: madeOf(r, entry), Builder: o.Builder, Below: below, Programs: programs}))
	return append(list, formats.Stages(o.Formats)...)
}

func kernelStage(r *resolve.Resolver, entry *lock.Entry) pipeline.Stage {
	o := kernel.Options{Arch: r.Arch, Prebuilt: r.Kernel, Fetch: r.Client, Bundle: r.OfflineBundle,
		Features: guestkernel.Features{Tailscale: r.Recipe.Tailscale.Enabled, Encryption: r.Recipe.Encrypts(), Postgres: r.Recipe.Postgres.Enabled}}
	if entry.Kernel != nil {
		o.Source = *entry.Kernel
	}
	return kernel.New(o)
}

// madeOf returns the artifact's inputs. With a prebuilt kernel they do not include the kernel
// source in the lock.
func madeOf(r *resolve.Resolver, entry *lock.Entry) lock.Entry {
	made := *entry
	if r.Kernel != "" {
		made.Kernel = nil
	}
	return made
}
