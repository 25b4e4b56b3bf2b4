package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/image/oci"
)

// A Published is an artifact that was pushed to a registry.
type Published struct {
	Reference string   // HOST/REPOSITORY@sha256:…, which is immutable
	Arches    []string // its architectures
	Signed    []string // those of them with a signature attached
	Serial    int64    // of the signature by Options.Sign; 0: nothing was signed
}

// Push publishes the artifacts in dirs, one for each architecture, under ref. A single one is the
// OCI artifact itself; several become an index. Files that the registry already has are not sent
// again, so that an interrupted push can be resumed. The tag is set last: a concurrent pull gets
// the previous artifact.
func Push(ctx context.Context, ref name.Reference, dirs []string, o Options) (*Published, error) {
	p := &pusher{Options: o, repository: ref.Context()}
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var last v1.Image
	out := &Published{}
	var err error
	if out.Serial, err = p.sign(ctx, ref, dirs); err != nil {
		return nil, fmt.Errorf("publish as %s: %w", ref, err)
	}
	var envelope v1.Image
	for _, dir := range dirs {
		if err := signedFor(ref, dir); err != nil {
			return nil, fmt.Errorf("publish %s: %w", dir, err)
		}
		img, m, err := p.machine(ctx, dir)
		if err != nil {
			return nil, fmt.Errorf("publish %s: %w", dir, err)
		}
		signed, err := p.attach(ctx, dir, img)
		if err != nil {
			return nil, fmt.Errorf("publish %s: %w", dir, err)
		}
		if envelope = signed; signed != nil {
			out.Signed = append(out.Signed, m.Arch)
		}
		out.Arches = append(out.Arches, m.Arch)
		last = img
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{
			ArtifactType: ArtifactType, Platform: &v1.Platform{OS: "linux", Architecture: m.Arch}}})
	}
	var all interface {
		remote.Taggable
		Digest() (v1.Hash, error)
	} = last
	if len(dirs) > 1 {
		all = index
	}
	if p.Sign != nil { // before the tag, so that a serial that can be pulled is never used again
		if err := p.push(ctx, newestTag(ref, p.Sign.Key.Public()), envelope); err != nil {
			return nil, fmt.Errorf("publish as %s: note serial %d: %w", ref, out.Serial, err)
		}
	}
	if err := p.push(ctx, ref, all); err != nil {
		return nil, fmt.Errorf("publish as %s: %w", ref, err)
	}
	digest, err := all.Digest()
	out.Reference = p.repository.Digest(digest.String()).Name()
	return out, err
}

type pusher struct {
	Options
	repository name.Repository
}

func (p *pusher) push(ctx context.Context, ref name.Reference, what remote.Taggable) error {
	return fetch.Retry(ctx, 0, p.Pause, func() error {
		err := remote.Push(ref, what, append(p.Remote(ctx, p.repository.Registry), remote.WithJobs(parallel))...)
		return explainPush(err)
	})
}

// machine checks an artifact and pushes it under its digest.
func (p *pusher) machine(ctx context.Context, dir string) (v1.Image, *manifest.Manifest, error) {
	p.Task.Step("check " + dir)
	m, files, err := soundFiles(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	var layers []content
	for _, f := range files {
		p.Task.Grow(f.Size)
		layers = append(layers, fileContent(dir, f, p.Task))
	}
	img, err := newArtifact(ArtifactType, nil, map[string]string{
		"org.opencontainers.image.title": m.Name, "org.opencontainers.image.version": m.Version,
		"org.opencontainers.image.description": m.Description}, layers...)
	if err != nil {
		return nil, nil, err
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, nil, err
	}
	p.Task.Step("send " + dir)
	return img, m, p.push(ctx, p.repository.Digest(digest.String()), img)
}

// soundFiles returns an artifact's files, the manifest first, after checking each against the
// manifest, and that against the provenance.
func soundFiles(ctx context.Context, dir string) (*manifest.Manifest, []manifest.File, error) {
	problems, err := manifest.Verify(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	verdict, err := provenance.Verify(dir, nil)
	if err != nil {
		return nil, nil, err
	}
	if problems = append(problems, verdict.Problems...); len(problems) > 0 {
		return nil, nil, fmt.Errorf("it is not sound: %v (sov verify lists all; build it again)", problems[0])
	}
	m, err := manifest.Load(dir)
	if err != nil {
		return nil, nil, err
	}
	var files []manifest.File
	for _, name := range []string{artifact.ManifestFile, artifact.SumsFile, artifact.ProvenanceFile} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("it has no %s: build it again with this sov", name)
		}
		if err != nil {
			return nil, nil, err
		}
		files = append(files, manifest.Describe(name, b))
	}
	return m, append(files, m.Files...), nil
}

// attach pushes an artifact's referrers: the bill of materials, and the provenance, signed or not.
// It returns the referrer with the signature, nil if there is none.
func (p *pusher) attach(ctx context.Context, dir string, img v1.Image) (signed v1.Image, err error) {
	raw, err := img.RawManifest()
	if err != nil {
		return nil, err
	}
	digest, size, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	subject := &v1.Descriptor{MediaType: types.OCIManifestSchema1, ArtifactType: ArtifactType, Digest: digest, Size: size}
	for _, r := range []struct {
		artifactType, file string
		mediaType          types.MediaType
	}{
		{sbomType, artifact.SBOMFile, sbomType},
		{statementType, artifact.ProvenanceFile, statementType},
		{statementType, artifact.SignedFile, envelopeType},
	} {
		b, err := os.ReadFile(filepath.Join(dir, r.file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c := bytesContent(r.mediaType, b)
		c.Annotations = map[string]string{titleKey: r.file}
		referrer, err := newArtifact(r.artifactType, subject, nil, c)
		if err != nil {
			return nil, err
		}
		id, err := referrer.Digest()
		if err != nil {
			return nil, err
		}
		p.Task.Step("attach " + r.file)
		if err := p.push(ctx, p.repository.Digest(id.String()), referrer); err != nil {
			return nil, fmt.Errorf("attach %s: %w", r.file, err)
		}
		if r.file == artifact.SignedFile {
			signed = referrer
		}
	}
	return signed, nil
}

// explainPush adds what to do if the registry denies the push.
func explainPush(err error) error {
	err = oci.ExplainAnswer(err)
	if fetch.Unreachable(err) {
		return fmt.Errorf("%w (no connection?)", err)
	}
	return err
}
