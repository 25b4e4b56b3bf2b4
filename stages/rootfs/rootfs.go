// Package rootfs is the stage that merges the shares of other stages and writes the root file
// system as an ext4 image, which the guest mounts read-only. A hash tree follows the file system;
// the guest's kernel verifies every read with it. rootfs.json describes the image.
package rootfs

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/image/verity"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/overlay"
)

// Name is the stage's name.
const Name = "rootfs"

// StatsFile is the output beside artifact.RootfsFile: an Info.
const StatsFile = "rootfs.json"

// version is part of the key. It is raised when the same tree gives another image, also because of
// a change of package ext4; a test detects that.
const version = 2

// Info is the content of StatsFile.
type Info struct {
	Label     string `json:"label"`
	UUID      string `json:"uuid"`
	Size      int64  `json:"size"`       // of the file system, bytes
	RootHash  string `json:"root_hash"`  // of the hash tree behind it, see package verity
	FreeBytes int64  `json:"free_bytes"` // within Size
	Inodes    int64  `json:"inodes"`
	Files     int    `json:"files"` // number of names, including directories
}

// Options shape the image.
type Options struct {
	Arch   string // the architecture of the services' programs
	Label  string
	Free   recipe.Size     // free space in the image; 0: the image is as small as possible
	Shares []overlay.Share // in the order in which they are applied
}

// New returns the stage.
func New(o Options) pipeline.Stage { return &stage{o} }

type stage struct{ Options }

func (s *stage) Name() string    { return Name }
func (s *stage) Needs() []string { return overlay.Names(s.Shares) }

func (s *stage) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	output.Version(k, version)
	k.Add("label", s.Label)
	k.Add("free", int64(s.Free))
	k.Add("shares", overlay.Names(s.Shares))
	return nil
}

func (s *stage) Run(ctx context.Context, j *pipeline.Job) error {
	j.Progress().Step("merge")
	merged, err := overlay.Merge(j, s.Shares...)
	if err != nil {
		return err
	}
	defer merged.Close()
	if err := checkPrograms(merged.Tree, s.Arch); err != nil {
		return err
	}
	entries, bytes, err := measure(merged.Tree)
	if err != nil {
		return err
	}
	w, err := j.Create(artifact.RootfsFile)
	if err != nil {
		return err
	}
	defer w.Abort()
	j.Progress().Step("write ext4")
	j.Progress().Total(bytes)
	stats, err := s.write(ctx, w, merged.Tree, j.Progress().Add)
	if err != nil {
		return err
	}
	j.Progress().Step("hash")
	root, err := verity.Write(ctx, w.File(), stats.Size)
	if err != nil {
		return err
	}
	if _, err := w.Commit(); err != nil {
		return err
	}
	return s.describe(j, stats, entries, root)
}

// measure returns how many names and how many bytes of content a tree has.
func measure(t *tree.Tree) (entries int, bytes int64, err error) {
	seen := map[*tree.Inode]bool{}
	err = t.Walk(func(_ string, n *tree.Inode) error {
		entries++
		if !seen[n] {
			bytes += n.Content.Size
			seen[n] = true
		}
		return nil
	})
	return entries, bytes, err
}

func (s *stage) write(ctx context.Context, w ext4.Target, t *tree.Tree, progress func(int64)) (ext4.Stats, error) {
	newest, err := overlay.Newest(t)
	if err != nil {
		return ext4.Stats{}, err
	}
	o := ext4.Options{Label: s.Label, ModTime: newest, Progress: progress}
	stats, err := ext4.Write(ctx, w, t, o)
	if err != nil || s.Free == 0 {
		return stats, err
	}
	// The space for the structures of a larger, writable file system is known only after the
	// layout.
	o.Size = stats.Size + int64(s.Free) + int64(s.Free)/32 + growthStep
	for range maxGrowth {
		o.Size = (o.Size + verity.BlockSize - 1) / verity.BlockSize * verity.BlockSize // the hash tree follows
		stats, err = ext4.Write(ctx, w, t, o)
		if err == nil && stats.FreeBytes >= int64(s.Free) {
			return stats, nil
		}
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			return stats, err
		}
		o.Size += max(int64(s.Free)-stats.FreeBytes, 0) + growthStep
	}
	if err == nil {
		err = fmt.Errorf("an image of %d bytes does not have the %s of room that rootfs.free asks for", o.Size, s.Free)
	}
	return stats, err
}

// The first size has space for inode tables of usual density. Each further round of write adds the
// missing space and a little more.
const (
	maxGrowth  = 5
	growthStep = 1 << 20
)

func (s *stage) describe(j *pipeline.Job, stats ext4.Stats, entries int, root verity.Digest) error {
	u := stats.UUID
	return output.WriteJSON(j, StatsFile, Info{
		Label: s.Label, Size: stats.Size, RootHash: root.String(), FreeBytes: stats.FreeBytes, Inodes: stats.Inodes, Files: entries,
		UUID: fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16]),
	})
}
