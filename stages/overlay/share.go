package overlay

import (
	"io"
	"os"

	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
)

// Suffix marks the outputs of a share that hold its files.
const Suffix = ".tar"

// A Share is a stage that puts files into the root file system: its outputs named *.tar, applied in
// the order in which the stage wrote them. The constructor of such a stage returns a Share; no
// other declaration is needed.
type Share struct {
	pipeline.Stage
	// ImageLayers says that the tars are the layers of a container image, where
	// a directory replaces a symbolic link (OCI image specification,
	// layer.md, "Applying Changesets"). In other shares the link stays:
	// packages bring /sbin as a directory where a base image may have a link to
	// /usr/sbin, and apk keeps the link. Names in them may begin with a slash.
	ImageLayers bool
	// MayBeEmpty says that the stage may have no files to add. Without it, a
	// share without an output named *.tar is an error.
	MayBeEmpty bool
}

// CheckPins implements pipeline.Pinned for a share whose stage does.
func (s Share) CheckPins(outputs []pipeline.Output, open func(pipeline.Blob) (*os.File, error)) error {
	if pinned, ok := s.Stage.(pipeline.Pinned); ok {
		return pinned.CheckPins(outputs, open)
	}
	return nil
}

// Shares returns the shares among stages, in the order of the stages. Merge applies them in that
// order.
func Shares(stages ...pipeline.Stage) []Share {
	var shares []Share
	for _, st := range stages {
		if s, ok := st.(Share); ok {
			shares = append(shares, s)
		}
	}
	return shares
}

// Names returns the names of the shares, for Needs.
func Names(shares []Share) []string {
	var names []string
	for _, s := range shares {
		names = append(names, s.Name())
	}
	return names
}

func (s Share) apply(t *tree.Tree, tar io.ReaderAt, size int64) error {
	return t.ApplyTar(tar, size, tree.TarOptions{Whiteouts: true, KeepDirSymlinks: !s.ImageLayers, Rooted: s.ImageLayers})
}

// Apply applies one tar of a share to a tree. The tree reads contents from the tar.
func Apply(t *tree.Tree, tar io.ReaderAt, size int64) error { return Share{}.apply(t, tar, size) }
