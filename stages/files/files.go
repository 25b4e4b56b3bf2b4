// Package files is the stage that puts the recipe's files into the root file system: texts in the
// recipe, files in its folder, and downloads. It is the top share: its files replace those of other
// stages.
package files

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/guestinit"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/overlay"
)

// Name is the stage's name.
const Name = "files"

// MaxFile is the largest file, in bytes.
const MaxFile = 4 << 30

// ContentOutput is the name of the output with the content that has a SHA-256.
func ContentOutput(sha256 string) string { return "content-" + sha256 }

// Options describe the files.
type Options struct {
	Below  []overlay.Share   // the base image and its packages, for their accounts
	Recipe *recipe.Recipe    // its files, users and groups
	Locked []lock.RecipeFile // the files whose content is not in the recipe
	Client *fetch.Client
	Bundle *offline.Bundle // used before sources and URLs
}

// New returns the stage.
func New(o Options) pipeline.Stage { return overlay.Share{Stage: &stage{o}} }

type stage struct{ Options }

func (s *stage) Name() string    { return Name }
func (s *stage) Needs() []string { return overlay.Names(s.Below) }

func (s *stage) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	output.Version(k, 1)
	k.Add("users", s.Recipe.Users)
	k.Add("groups", s.Recipe.Groups)
	for i, f := range s.Recipe.Files {
		digest, err := s.digest(f)
		if err != nil {
			return err
		}
		k.Add(fmt.Sprintf("file %d", i), []string{f.Path, string(digest), fmt.Sprintf("%04o", f.Mode), f.Owner, f.Group})
	}
	return nil
}

// digest returns the required digest of a file's content.
func (s *stage) digest(f recipe.File) (pipeline.Digest, error) {
	if f.Content != nil {
		return pipeline.DigestOf([]byte(*f.Content)), nil
	}
	for _, locked := range s.Locked {
		if locked.Path == f.Path {
			return pipeline.Digest("sha256:" + locked.SHA256), nil
		}
	}
	return "", fmt.Errorf("file %s is not in the lock", f.Path)
}

func (s *stage) Run(ctx context.Context, j *pipeline.Job) error {
	merged, err := overlay.Merge(j, s.Below...)
	if err != nil {
		return err
	}
	defer merged.Close()
	owner, err := guestinit.Owners(merged.Tree, s.Recipe)
	if err != nil {
		return err
	}
	newest, err := overlay.Newest(merged.Tree)
	if err != nil {
		return err
	}
	w, err := j.Create(Name + overlay.Suffix)
	if err != nil {
		return err
	}
	defer w.Abort()
	t := tar.NewWriter(w)
	var blobs []pipeline.Blob
	for _, f := range s.Recipe.Files {
		uid, gid, err := owner(f.Owner, f.Group)
		if err != nil {
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
		b, err := s.content(ctx, j, f)
		if err != nil {
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
		if f.Content == nil && !slices.Contains(blobs, b) {
			blobs = append(blobs, b)
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(f.Path, "/"), Mode: int64(f.Mode), Uid: int(uid), Gid: int(gid), ModTime: newest, Format: tar.FormatPAX}
		if err := write(t, h, j, b); err != nil {
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("write output %s: %w", Name, err)
	}
	if _, err := w.Commit(); err != nil {
		return err
	}
	for _, b := range blobs { // for offline bundles
		if err := j.Attach(ContentOutput(b.Digest.Hex()), b); err != nil {
			return err
		}
	}
	return nil
}

func write(t *tar.Writer, h *tar.Header, j *pipeline.Job, b pipeline.Blob) error {
	content, err := j.Open(b)
	if err != nil {
		return err
	}
	defer content.Close()
	h.Size = b.Size
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(t, content)
	return err
}

// content returns a file's content, from the cache if it has it.
func (s *stage) content(ctx context.Context, j *pipeline.Job, f recipe.File) (pipeline.Blob, error) {
	digest, err := s.digest(f)
	if err != nil {
		return pipeline.Blob{}, err
	}
	return j.Pin(ctx, "file "+string(digest), pipeline.IsDigest(digest), func(w *pipeline.Writer) error {
		if f.Content != nil {
			_, err := io.WriteString(w, *f.Content)
			return err
		}
		bundled, _, err := s.Bundle.Open(offline.File, digest.Hex())
		if err == nil {
			defer bundled.Close()
			_, err = io.Copy(w, bundled)
			return err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if f.URL != "" {
			return s.download(ctx, j, w, f.URL)
		}
		return copyFile(w, Source(s.Recipe, f))
	})
}

// download writes the content of a URL to w, through a file: a broken transfer is retried.
func (s *stage) download(ctx context.Context, j *pipeline.Job, w io.Writer, url string) error {
	scratch, err := j.Scratch()
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(scratch, "file-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	j.Progress().Step("fetch " + url)
	if err := s.Client.File(ctx, tmp, url, MaxFile); err != nil {
		return err
	}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(w, tmp)
	return err
}

func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// Source returns the path of a file's source.
func Source(r *recipe.Recipe, f recipe.File) string {
	if filepath.IsAbs(f.Source) {
		return f.Source
	}
	return filepath.Join(r.Dir, f.Source)
}
