package publish

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/artifact/serials"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/image/oci"
)

// ErrUnproven is wrapped by the error if a key is given and the artifact has no signature of that
// key for this reference with a serial that is not lower than one before.
var ErrUnproven = errors.New("it has no signature that would be accepted")

// A Machine is an artifact in a registry whose documents have been fetched and
// agree with each other and with its digest.
type Machine struct {
	Manifest  *manifest.Manifest
	Reference string // HOST/REPOSITORY@sha256:…
	SignedBy  string // ID of the key that signed the envelope; verified if a key was given
	Serial    int64  // of that signature; 0: it has none

	o          Options
	client     *http.Client
	repository name.Repository
	ref        name.Reference     // reference that it must be signed for
	signed     *provenance.Signed // nil: it is not signed, or its signature has no serial
	layers     []v1.Descriptor    // the artifact's files
	documents  map[string][]byte  // small files, already fetched, including the envelope
}

// Open finds the machine for an architecture under a reference and fetches its manifest, provenance
// and signature. With a key, the machine must be signed by it.
func Open(ctx context.Context, ref name.Reference, arch string, key dsse.PublicKey, o Options) (*Machine, error) {
	m, err := open(ctx, ref, arch, key, o)
	if err != nil {
		return nil, fmt.Errorf("pull %s for %s: %w", ref, arch, err)
	}
	return m, nil
}

func open(ctx context.Context, ref name.Reference, arch string, key dsse.PublicKey, o Options) (*Machine, error) {
	o.Task.Step("ask " + ref.Context().RegistryStr())
	m := &Machine{o: o, repository: ref.Context(), ref: o.expected(ref), documents: map[string][]byte{}}
	desc, err := m.get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if desc.MediaType.IsIndex() {
		digest, err := forArch(desc.Manifest, arch)
		if err != nil {
			return nil, err
		}
		if desc, err = m.get(ctx, m.repository.Digest(digest.String())); err != nil {
			return nil, err
		}
	}
	m.Reference = m.repository.Digest(desc.Digest.String()).Name()
	listed, err := parseMachine(desc.Manifest)
	if err != nil {
		return nil, err
	}
	m.layers = listed.Layers
	if m.client, err = o.Client(ctx, m.repository); err != nil {
		return nil, oci.ExplainAnswer(err)
	}
	if err := m.fetchDocuments(ctx); err != nil {
		return nil, err
	}
	if m.Manifest, err = checkFiles(listed, m.documents); err != nil {
		return nil, err
	}
	if m.Manifest.Arch != arch {
		return nil, fmt.Errorf("it is for %s", m.Manifest.Arch)
	}
	return m, m.prove(ctx, desc.Digest, key)
}

// get fetches a manifest. If ref has a digest, the manifest is checked against it.
func (m *Machine) get(ctx context.Context, ref name.Reference) (desc *remote.Descriptor, err error) {
	err = fetch.Retry(ctx, 0, m.o.Pause, func() error {
		desc, err = remote.Get(ref, m.o.Remote(ctx, m.repository.Registry)...)
		return oci.ExplainAnswer(err)
	})
	return desc, err
}

// forArch finds a machine in an index.
func forArch(raw []byte, arch string) (v1.Hash, error) {
	if len(raw) > maxManifest {
		return v1.Hash{}, fmt.Errorf("its OCI index has %d bytes, no machine's has more than %d", len(raw), maxManifest)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return v1.Hash{}, fmt.Errorf("read its OCI index: %w", err)
	}
	var there []string
	for _, d := range index.Manifests {
		if d.Platform == nil || d.ArtifactType != ArtifactType {
			continue
		}
		if d.Platform.Architecture == arch {
			return d.Digest, nil
		}
		there = append(there, d.Platform.Architecture)
	}
	if len(there) == 0 {
		return v1.Hash{}, errors.New("no machine that sov has published is there")
	}
	return v1.Hash{}, fmt.Errorf("there is none, only one for %s", strings.Join(there, " and "))
}

func (m *Machine) fetchDocuments(ctx context.Context) error {
	for _, l := range m.layers {
		if name := l.Annotations[titleKey]; isDocument(name) {
			b, err := m.document(ctx, l)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			m.documents[name] = b
		}
	}
	return nil
}

// document fetches a small blob into memory.
func (m *Machine) document(ctx context.Context, d v1.Descriptor) (b []byte, err error) {
	if d.Size < 0 || d.Size > maxDocument {
		return nil, fmt.Errorf("it has %d bytes, at most %d are expected", d.Size, maxDocument)
	}
	err = fetch.Retry(ctx, 0, m.o.Pause, func() error {
		body, _, err := m.blob(ctx, d, 0)
		if err != nil {
			return err
		}
		defer body.Close()
		if b, err = io.ReadAll(io.LimitReader(body, d.Size+1)); err != nil {
			return err
		}
		digest, size, err := v1.SHA256(bytes.NewReader(b))
		if err == nil && (digest != d.Digest || size != d.Size) {
			err = &corruptError{d, digest, size}
		}
		return err
	})
	return b, err
}

// A corruptError is a blob with another digest than expected. It may be temporary: an interrupted
// transfer has the same effect.
type corruptError struct {
	want v1.Descriptor
	got  v1.Hash
	size int64
}

func (e *corruptError) Error() string {
	return fmt.Sprintf("the registry sent %d bytes with SHA-256 %.12s… in place of %d with %.12s…", e.size, e.got.Hex, e.want.Size, e.want.Digest.Hex)
}

// Unwrap makes a short transfer an error that is retried.
func (e *corruptError) Unwrap() error {
	if e.size < e.want.Size {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// prove checks the provenance against the files, and its signature against the key.
func (m *Machine) prove(ctx context.Context, digest v1.Hash, key dsse.PublicKey) error {
	statement, err := provenance.Decode(m.documents[artifact.ProvenanceFile])
	if err != nil {
		return err
	}
	files := append(slices.Clone(m.Manifest.Files), manifest.Describe(artifact.ManifestFile, m.documents[artifact.ManifestFile]))
	if problems := statement.Check(files); len(problems) > 0 {
		return errors.New(problems[0].String())
	}
	envelopes, err := m.envelopes(ctx, digest)
	if err != nil {
		return fmt.Errorf("ask for its signatures: %w", err)
	}
	refused := ErrUnproven
	for _, file := range envelopes {
		signed, err := m.accept(file, key)
		if err != nil {
			refused = fmt.Errorf("%w: %w", ErrUnproven, err)
			continue
		}
		if m.signed == nil || signed != nil && signed.Serial > m.signed.Serial {
			m.signed, m.documents[artifact.SignedFile] = signed, file
		}
	}
	file := m.documents[artifact.SignedFile]
	if file == nil {
		if key != nil {
			return refused
		}
		return nil
	}
	e, _, err := dsse.Peek(provenance.PayloadType, file)
	if err != nil {
		return err
	}
	m.SignedBy = e.Signatures[0].KeyID
	if m.signed == nil {
		return nil
	}
	m.Serial = m.signed.Serial
	if key == nil || m.o.AllowDowngrade {
		return nil
	}
	err = m.o.Serials.Check(line(m.signed, m.ref), m.Serial)
	if lower := new(serials.LowerError); errors.As(err, &lower) {
		return fmt.Errorf("%w: %w", ErrUnproven, err)
	}
	return err
}

// accept returns the statement of an envelope after checking that it is about this machine and the
// reference that it is pulled from and, with a key, that it is signed by that. Without a serial in
// the signature it returns nil and, with a key, an error unless a downgrade is allowed.
func (m *Machine) accept(file []byte, key dsse.PublicKey) (*provenance.Signed, error) {
	_, payload, err := dsse.Peek(provenance.PayloadType, file)
	if err == nil && key != nil {
		payload, err = dsse.Open(key, provenance.PayloadType, file)
	}
	if err != nil {
		return nil, err
	}
	statement := m.documents[artifact.ProvenanceFile]
	signed, err := provenance.OpenSigned(file)
	switch {
	case errors.Is(err, provenance.ErrNoSerial) && !bytes.Equal(payload, statement), err == nil && !signed.States(statement):
		return nil, errors.New("its signature is about another artifact")
	case errors.Is(err, provenance.ErrNoSerial):
		if key != nil && !m.o.AllowDowngrade {
			return nil, fmt.Errorf("%w: publish it again with sov publish --sign; --allow-downgrade accepts it", err)
		}
		return nil, nil
	case err != nil:
		return nil, err
	case !isFor(signed, m.ref):
		return nil, fmt.Errorf("it is the machine %s that was signed for %s, not for %s: if this registry is a mirror of that one, name the original with --published-as",
			signed.Name, forWhat(signed), m.ref.Name())
	}
	return signed, nil
}

// envelopes returns the signatures that are attached to the artifact, in an order that does not
// depend on the registry.
func (m *Machine) envelopes(ctx context.Context, digest v1.Hash) ([][]byte, error) {
	var index *v1.IndexManifest
	err := fetch.Retry(ctx, 0, m.o.Pause, func() error {
		referrers, err := remote.Referrers(m.repository.Digest(digest.String()), m.o.Remote(ctx, m.repository.Registry)...)
		if err == nil {
			index, err = referrers.IndexManifest()
		}
		return oci.ExplainAnswer(err)
	})
	if err != nil {
		return nil, err
	}
	// Some registries list the type of the configuration in place of the artifact's.
	found := slices.DeleteFunc(slices.Clone(index.Manifests), func(d v1.Descriptor) bool {
		return d.ArtifactType != statementType && d.ArtifactType != emptyType && d.ArtifactType != ""
	})
	if len(found) > maxReferrers {
		return nil, fmt.Errorf("%d things refer to it, more than the %d that are looked at", len(found), maxReferrers)
	}
	slices.SortFunc(found, func(a, b v1.Descriptor) int { return cmp.Compare(a.Digest.Hex, b.Digest.Hex) })
	var out [][]byte
	for _, d := range found {
		desc, err := m.get(ctx, m.repository.Digest(d.Digest.String()))
		if err != nil {
			return nil, err
		}
		b, err := m.envelope(ctx, desc.Manifest)
		if err != nil {
			return nil, err
		}
		if b == nil {
			continue
		}
		out = append(out, b)
	}
	return out, nil
}

// Names lists the machine's files, including the signature.
func (m *Machine) Names() []string {
	var out []string
	for _, l := range m.layers {
		out = append(out, l.Annotations[titleKey])
	}
	if m.documents[artifact.SignedFile] != nil {
		out = append(out, artifact.SignedFile)
	}
	slices.Sort(out)
	return out
}

// write writes a document to a directory.
func (m *Machine) write(dir, name string) error {
	return durable.WriteFile(filepath.Join(dir, name), m.documents[name], 0o644)
}
