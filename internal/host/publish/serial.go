package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/artifact/serials"
	"github.com/sovereign-sql/sov/internal/host/signing"
	"github.com/sovereign-sql/sov/internal/image/oci"
)

// newestTag returns the tag under which a repository has the newest signature of a key. The next
// serial follows that of this signature, under whichever tag it is published.
func newestTag(ref name.Reference, key dsse.PublicKey) name.Tag {
	return ref.Context().Tag("sov-newest-" + key.ID()[:16])
}

// sign signs the artifacts in dirs for ref and returns their serial. Without a signer it does
// nothing.
func (p *pusher) sign(ctx context.Context, ref name.Reference, dirs []string) (int64, error) {
	if p.Options.Sign == nil {
		return 0, nil
	}
	for _, dir := range dirs {
		p.Task.Step("check " + dir)
		if err := signing.Check(ctx, dir); err != nil {
			return 0, err
		}
	}
	signer := *p.Options.Sign
	signer.For(ref)
	p.Task.Step("ask " + ref.Context().RegistryStr() + " for the newest serial")
	newest, err := newestSerial(ctx, ref, signer.Key.Public(), p.Options)
	if err != nil {
		return 0, fmt.Errorf("find the newest serial: %w", err)
	}
	signer.Known = newest
	serial, _, err := signer.Sign(ctx, dirs...)
	return serial, err
}

// newestSerial returns the serial of the newest signature of a key in the repository; 0: it has
// none. If the registry returns an older one, the new serial may be too low, and other computers
// reject it.
func newestSerial(ctx context.Context, ref name.Reference, key dsse.PublicKey, o Options) (int64, error) {
	m := &Machine{o: o, repository: ref.Context()}
	desc, err := m.get(ctx, newestTag(ref, key))
	// Some registries return these for a repository that does not exist yet. Without permission to
	// read, the serials stored on this computer are used.
	none := []int{http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden}
	if answer := new(transport.Error); errors.As(err, &answer) && slices.Contains(none, answer.StatusCode) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if m.client, err = o.Client(ctx, m.repository); err != nil {
		return 0, oci.ExplainAnswer(err)
	}
	file, err := m.envelope(ctx, desc.Manifest)
	if err != nil || file == nil {
		return 0, err
	}
	signed, err := provenance.OpenSigned(file)
	if err != nil || signed.By.ID() != key.ID() {
		return 0, errors.Join(err, fmt.Errorf("%s is not signed by key %.16s…: remove that tag", newestTag(ref, key), key.ID()))
	}
	return signed.Serial, nil
}

// signedFor rejects an artifact whose signature is for another reference: every pull with its key
// would fail.
func signedFor(ref name.Reference, dir string) error {
	signed, err := provenance.ReadSigned(dir)
	if err != nil || signed == nil {
		return err
	}
	if signed.Reference != ref.Name() {
		return fmt.Errorf("its signature is for %s: sign it for this reference with --sign KEY, or with sov sign --reference %s", forWhat(signed), ref.Name())
	}
	return nil
}

func forWhat(s *provenance.Signed) string {
	if s.Reference == "" {
		return "no registry"
	}
	return s.Reference
}

// envelope fetches the signature that the OCI manifest of a referrer names; nil if the referrer is
// not a signature.
func (m *Machine) envelope(ctx context.Context, raw []byte) ([]byte, error) {
	if len(raw) > maxManifest {
		return nil, nil
	}
	referrer, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil || len(referrer.Layers) != 1 || referrer.Layers[0].MediaType != envelopeType {
		return nil, nil // the unsigned statement, or another signer's attestation
	}
	return m.document(ctx, referrer.Layers[0])
}

// expected returns the reference that the machine must be signed for. A machine that is pulled by
// digest may be signed for any tag of the repository.
func (o *Options) expected(ref name.Reference) name.Reference {
	if o.PublishedAs != nil {
		return o.PublishedAs
	}
	return ref
}

func isFor(s *provenance.Signed, ref name.Reference) bool {
	if _, tag := ref.(name.Tag); tag {
		return s.Reference == ref.Name()
	}
	signedFor, err := name.ParseReference(s.Reference)
	return err == nil && signedFor.Context().Name() == ref.Context().Name()
}

// line returns the series of serials that a pulled machine belongs to.
func line(s *provenance.Signed, ref name.Reference) serials.Line {
	return serials.Line{Of: ref.Context().Name(), Key: s.By.ID()}
}

// Remember stores the machine's serial, so that lower ones are rejected from now on. Without a key
// it does nothing.
func (m *Machine) Remember(key dsse.PublicKey) error {
	if key == nil || m.signed == nil {
		return nil
	}
	return m.o.Serials.Note(m.Serial, line(m.signed, m.ref))
}
