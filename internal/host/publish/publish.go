// Package publish pushes built machines to registries and pulls them, as OCI artifacts whose layers
// are the artifact's files, unchanged, each under its name. The bill of materials and the
// provenance are attached to it as referrers (OCI distribution specification 1.1, "Listing
// Referrers"; in registries without that, by its tag scheme), where other programs look for them. A
// signature is only a referrer: adding or removing it does not change the artifact's digest.
//
// The registry is not trusted: everything it returns is checked against a digest or a signature.
// The manifest of the artifact, which the OCI manifest's digest covers, lists what is fetched;
// wrong names, sizes or contents are detected before anything is placed. A signature names a
// reference and a serial, so that a machine signed for another reference and an older version in
// place of a newer one are also detected.
package publish

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/artifact/serials"
	"github.com/sovereign-sql/sov/internal/host/signing"
	"github.com/sovereign-sql/sov/internal/image/oci"
	"github.com/sovereign-sql/sov/pipeline"
)

// Media types: OCI's, the referrers' by which others find them, and our own.
const (
	ArtifactType = "application/vnd.sov.machine.v1"

	emptyType     = "application/vnd.oci.empty.v1+json" // OCI image specification, "Guidance for an Empty Descriptor"
	fileType      = "application/vnd.sov.machine.file.v1"
	manifestType  = "application/vnd.sov.machine.manifest.v1+json"
	sbomType      = "application/vnd.cyclonedx+json"
	statementType = provenance.PayloadType
	envelopeType  = "application/vnd.dsse.envelope.v1+json"

	// titleKey is the annotation with a layer's file name (OCI image
	// specification, "Pre-Defined Annotation Keys").
	titleKey = "org.opencontainers.image.title"
)

// Bounds on what is accepted from a registry.
const (
	maxManifest  = 1 << 20  // bytes of an OCI manifest; one has some KiB
	maxDocument  = 16 << 20 // bytes of manifest.json, provenance, envelope
	maxFiles     = 64
	maxReferrers = 64
	parallel     = 4 // concurrent transfers; registries throttle clients with many more
)

// Options are the options of Push, Open and Fetch.
type Options struct {
	oci.Options
	Task *pipeline.Task // shows progress; nil: it is not shown
	// Sign signs what is pushed, for the reference that it is pushed under; nil: it is pushed
	// unchanged.
	Sign *signing.Signer
	// Serials stores the highest serial that was pulled with each key.
	Serials serials.Memory
	// AllowDowngrade accepts a signature of the key with a lower serial than one before, or without
	// a serial.
	AllowDowngrade bool
	// PublishedAs is the reference that a pulled machine must be signed for; nil: the one that it
	// is pulled from.
	PublishedAs name.Reference
}

// mediaType is that of a file of the artifact.
func mediaType(name string) types.MediaType {
	switch name {
	case artifact.ManifestFile:
		return manifestType
	case artifact.SBOMFile:
		return sbomType
	case artifact.ProvenanceFile:
		return statementType
	}
	return fileType
}

// A content is a file or bytes with a known digest and size.
type content struct {
	v1.Descriptor
	open func() (io.ReadCloser, error)
}

func (c content) Digest() (v1.Hash, error)             { return c.Descriptor.Digest, nil }
func (c content) Size() (int64, error)                 { return c.Descriptor.Size, nil }
func (c content) MediaType() (types.MediaType, error)  { return c.Descriptor.MediaType, nil }
func (c content) Compressed() (io.ReadCloser, error)   { return c.open() }
func (c content) Uncompressed() (io.ReadCloser, error) { return c.open() }
func (c content) DiffID() (v1.Hash, error)             { return c.Descriptor.Digest, nil }

func bytesContent(mt types.MediaType, b []byte) content {
	digest, size, err := v1.SHA256(bytes.NewReader(b))
	if err != nil {
		panic(err) // reading from memory
	}
	return content{v1.Descriptor{MediaType: mt, Digest: digest, Size: size},
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

// fileContent returns a file of an artifact's directory. Reading it advances the progress of task.
func fileContent(dir string, f manifest.File, task *pipeline.Task) content {
	return content{
		Descriptor: v1.Descriptor{MediaType: mediaType(f.Name), Size: f.Size, Digest: v1.Hash{Algorithm: "sha256", Hex: f.SHA256},
			Annotations: map[string]string{titleKey: f.Name}},
		open: func() (io.ReadCloser, error) {
			file, err := os.Open(filepath.Join(dir, f.Name))
			if err != nil {
				return nil, err
			}
			return struct {
				io.Reader
				io.Closer
			}{task.Reader(file), file}, nil
		},
	}
}

// An ociArtifact is a manifest with an empty configuration; it implements
// partial.CompressedImageCore.
type ociArtifact struct {
	raw    []byte
	layers map[v1.Hash]content
}

func (a *ociArtifact) RawConfigFile() ([]byte, error)      { return []byte("{}"), nil }
func (a *ociArtifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (a *ociArtifact) RawManifest() ([]byte, error)        { return a.raw, nil }
func (a *ociArtifact) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	c, ok := a.layers[h]
	if !ok {
		return nil, fmt.Errorf("the artifact has no layer %s", h)
	}
	return c, nil
}

// newArtifact makes an OCI artifact whose layers are contents.
func newArtifact(artifactType string, subject *v1.Descriptor, annotations map[string]string, layers ...content) (v1.Image, error) {
	config := bytesContent(emptyType, []byte("{}"))
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: artifactType, Config: config.Descriptor,
		Subject: subject, Annotations: annotations}
	a := &ociArtifact{layers: map[v1.Hash]content{}}
	for _, l := range layers {
		m.Layers = append(m.Layers, l.Descriptor)
		a.layers[l.Descriptor.Digest] = l
	}
	var err error
	if a.raw, err = json.Marshal(m); err != nil {
		return nil, fmt.Errorf("encode OCI manifest: %w", err)
	}
	return partial.CompressedToImage(a)
}

var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$`)

// parseMachine parses and validates the OCI manifest of a machine. Only the validated fields may be
// used.
func parseMachine(raw []byte) (*v1.Manifest, error) {
	if len(raw) > maxManifest {
		return nil, fmt.Errorf("its OCI manifest has %d bytes, no machine's has more than %d", len(raw), maxManifest)
	}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("read its OCI manifest: %w", err)
	}
	if m.ArtifactType != ArtifactType {
		return nil, fmt.Errorf("it is not a machine that sov has published: its artifact type is %.80q, not %s", m.ArtifactType, ArtifactType)
	}
	if len(m.Layers) > maxFiles {
		return nil, fmt.Errorf("it has %d files, no machine has more than %d", len(m.Layers), maxFiles)
	}
	var names []string
	for _, l := range m.Layers {
		name := l.Annotations[titleKey]
		if !fileName.MatchString(name) || slices.Contains(names, name) {
			return nil, fmt.Errorf("%.80q is not a file name, or is listed twice", name)
		}
		if _, err := hex.DecodeString(l.Digest.Hex); err != nil || l.Digest.Algorithm != "sha256" || l.Size < 0 {
			return nil, fmt.Errorf("%s has no proper size and SHA-256", name)
		}
		if isDocument(name) && l.Size > maxDocument {
			return nil, fmt.Errorf("%s has %d bytes, at most %d are expected", name, l.Size, maxDocument)
		}
		names = append(names, name)
	}
	for _, name := range []string{artifact.ManifestFile, artifact.SumsFile, artifact.ProvenanceFile} {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("it has no %s", name)
		}
	}
	return m, nil
}

// isDocument reports whether a file is read into memory before the others are
// fetched.
func isDocument(name string) bool {
	return name == artifact.ManifestFile || name == artifact.SumsFile || name == artifact.ProvenanceFile
}

// checkFiles compares the files that an OCI manifest lists with those of the artifact's own
// manifest. They must be the same.
func checkFiles(m *v1.Manifest, documents map[string][]byte) (*manifest.Manifest, error) {
	own, err := manifest.Decode(documents[artifact.ManifestFile])
	if err != nil {
		return nil, err
	}
	if err := artifact.CheckName(own.Name); err != nil {
		return nil, fmt.Errorf("%s: %w", artifact.ManifestFile, err)
	}
	if _, err := arch.Get(own.Arch); err != nil {
		return nil, fmt.Errorf("%s: %w", artifact.ManifestFile, err)
	}
	want := slices.Clone(own.Files)
	for name, b := range documents {
		want = append(want, manifest.Describe(name, b))
	}
	var have []manifest.File
	for _, l := range m.Layers {
		have = append(have, manifest.File{Name: l.Annotations[titleKey], Size: l.Size, SHA256: l.Digest.Hex})
	}
	byName := func(a, b manifest.File) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(want, byName)
	slices.SortFunc(have, byName)
	if !slices.Equal(want, have) {
		return nil, fmt.Errorf("its layers are not the files that its %s lists", artifact.ManifestFile)
	}
	listed := append(own.Files, manifest.Describe(artifact.ManifestFile, documents[artifact.ManifestFile]), manifest.Describe(artifact.ProvenanceFile, documents[artifact.ProvenanceFile]))
	if !bytes.Equal(manifest.SumsFile(listed), documents[artifact.SumsFile]) {
		return nil, errors.New(artifact.SumsFile + " does not agree with the files")
	}
	return own, nil
}
