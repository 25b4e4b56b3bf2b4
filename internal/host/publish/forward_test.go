package publish

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/artifact/serials"
	"github.com/sovereign-sql/sov/internal/host/signing"
)

// A computer publishes and pulls with separate serials and a separate folder.
type computer struct {
	t      *testing.T
	memory serials.Memory
	out    string
}

func newComputer(t *testing.T) *computer {
	dir := t.TempDir()
	return &computer{t, serials.At(filepath.Join(dir, "serials.json")), filepath.Join(dir, "out")}
}

// publish signs and publishes with the given serial, or with the next one if serial is 0. It
// returns the serial.
func (c *computer) publish(ref name.Reference, key dsse.PrivateKey, serial int64, dirs ...string) (int64, error) {
	o := options()
	o.Sign = &signing.Signer{Key: key, Serials: c.memory, Serial: serial}
	p, err := Push(context.Background(), ref, dirs, o)
	if err != nil {
		return 0, err
	}
	return p.Serial, nil
}

func (c *computer) mustPublish(want int64, ref name.Reference, key dsse.PrivateKey, dirs ...string) {
	c.t.Helper()
	if got, err := c.publish(ref, key, 0, dirs...); got != want || err != nil {
		c.t.Fatalf("published with serial %d, want %d: %v", got, want, err)
	}
}

func (c *computer) pull(ref name.Reference, key dsse.PublicKey, change func(*Options)) (*Fetched, error) {
	o := options()
	o.Serials = c.memory
	if change != nil {
		change(&o)
	}
	return Fetch(context.Background(), ref, "arm64", key, c.out, replace, o)
}

func allow(o *Options) { o.AllowDowngrade = true }

// turnBack makes a tag of the registry point to an older digest, as an attacker with write access
// can.
func turnBack(t *testing.T, ref name.Reference, to *Fetched) {
	t.Helper()
	at, err := name.ParseReference(to.Reference)
	if err != nil {
		t.Fatal(err)
	}
	p := &pusher{Options: options(), repository: ref.Context()}
	m := &Machine{o: options(), repository: ref.Context()}
	desc, err := m.get(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.push(t.Context(), ref, desc); err != nil {
		t.Fatal(err)
	}
}

// TestTurnedBackTag: a tag is set back to an older signed version. A computer that has seen the
// newer version refuses it.
func TestTurnedBackTag(t *testing.T) {
	for name, o := range map[string][]registry.Option{"referrers": {registry.WithReferrersSupport(true)}, "tags": nil} {
		t.Run(name, func(t *testing.T) {
			p, key := newPeer(t, o...), testKey(t, 1)
			theirs, ours := newComputer(t), newComputer(t)
			theirs.mustPublish(1, p.ref("1"), key, makeVersion(t, "sql", "1", "arm64", nil))
			first, err := ours.pull(p.ref("1"), key.Public(), nil)
			if err != nil || first.Serial != 1 {
				t.Fatalf("%+v, %v", first, err)
			}
			nine := makeVersion(t, "sql", "9", "arm64", nil)
			theirs.mustPublish(2, p.ref("1"), key, nine)
			theirs.mustPublish(2, p.ref("1"), key, nine) // nothing changed
			if second, err := ours.pull(p.ref("1"), key.Public(), nil); err != nil || second.Serial != 2 {
				t.Fatalf("%+v, %v", second, err)
			}
			turnBack(t, p.ref("1"), first)
			var lower *serials.LowerError
			if _, err := ours.pull(p.ref("1"), key.Public(), nil); !errors.As(err, &lower) || !errors.Is(err, ErrUnproven) || lower.Serial != 1 || lower.Highest != 2 {
				t.Errorf("turned back: %v", err)
			}
			if back, err := ours.pull(p.ref("1"), key.Public(), allow); err != nil || back.Version != "1" {
				t.Errorf("turned back, on purpose: %+v, %v", back, err)
			}
			if _, err := ours.pull(p.ref("1"), key.Public(), nil); !errors.As(err, &lower) {
				t.Errorf("turned back, again: %v", err)
			}
			// The next serial follows the highest of the repository, also under another tag and on
			// a computer without serials.
			newComputer(t).mustPublish(3, p.ref("2"), key, makeVersion(t, "sql", "10", "arm64", nil))
			theirs.mustPublish(4, p.ref("1"), key, makeVersion(t, "sql", "11", "arm64", nil), makeVersion(t, "sql", "11", "amd64", nil))
			if got, err := ours.pull(p.ref("1"), key.Public(), nil); err != nil || got.Serial != 4 {
				t.Errorf("a newer version: %+v, %v", got, err)
			}
		})
	}
}

// TestAnotherReference: a signed machine is accepted only under the reference that it was signed
// for.
func TestAnotherReference(t *testing.T) {
	p, key := newPeer(t, registry.WithReferrersSupport(true)), testKey(t, 1)
	c := newComputer(t)
	forge, err := name.ParseReference(p.host + "/team/forge:1")
	if err != nil {
		t.Fatal(err)
	}
	dir := makeVersion(t, "forge", "1", "arm64", nil)
	if _, err := c.publish(forge, key, 7, dir); err != nil {
		t.Fatal(err)
	}
	if err := signedFor(p.ref("1"), dir); err == nil || !strings.Contains(err.Error(), "--sign KEY") {
		t.Errorf("published with a signature for another reference: %v", err)
	}
	// An attacker with write access to the registry copies the machine and its signature to another
	// repository.
	img, _, err := (&pusher{Options: options(), repository: p.ref("1").Context()}).machine(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	attacker := &pusher{Options: options(), repository: p.ref("1").Context()}
	if _, err := attacker.attach(t.Context(), dir, img); err != nil {
		t.Fatal(err)
	}
	if err := attacker.push(t.Context(), p.ref("1"), img); err != nil {
		t.Fatal(err)
	}
	if _, err := c.pull(p.ref("1"), key.Public(), allow); !errors.Is(err, ErrUnproven) || !strings.Contains(err.Error(), "the machine forge that was signed for") {
		t.Errorf("another machine under this reference: %v", err)
	}
	mirrored := func(o *Options) { o.PublishedAs = forge }
	if got, err := c.pull(p.ref("1"), key.Public(), mirrored); err != nil || got.Serial != 7 {
		t.Errorf("from a mirror: %+v, %v", got, err)
	}
	// The same version under another tag of its repository.
	other, err := name.ParseReference(p.host + "/team/forge:stable")
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.pull(forge, key.Public(), nil)
	if err != nil {
		t.Fatal(err)
	}
	turnBack(t, other, got)
	if _, err := c.pull(other, key.Public(), nil); !errors.Is(err, ErrUnproven) {
		t.Errorf("another tag: %v", err)
	}
	byDigest, err := name.ParseReference(got.Reference)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.pull(byDigest, key.Public(), nil); err != nil {
		t.Errorf("by its digest: %v", err)
	}
}

// TestWithoutSerial: a signature of an earlier sov has neither serial nor reference. It must not
// bypass the check of the serial.
func TestWithoutSerial(t *testing.T) {
	p, key := newPeer(t, registry.WithReferrersSupport(true)), testKey(t, 1)
	c, dir := newComputer(t), makeVersion(t, "sql", "1", "arm64", nil)
	envelope, err := dsse.Seal(key, provenance.PayloadType, []byte(contents(t, dir)["provenance.json"]))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "provenance.dsse.json"), envelope)
	push(t, p.ref("1"), dir)
	if _, err := c.pull(p.ref("1"), key.Public(), nil); !errors.Is(err, ErrUnproven) || !errors.Is(err, provenance.ErrNoSerial) {
		t.Errorf("without a serial: %v", err)
	}
	if got, err := c.pull(p.ref("1"), key.Public(), allow); err != nil || got.Serial != 0 {
		t.Errorf("allowed: %+v, %v", got, err)
	}
}

// TestGivenSerial: --serial may repeat the highest serial, as a repeated CI job does. It must not
// be lower.
func TestGivenSerial(t *testing.T) {
	p, key, c := newPeer(t), testKey(t, 1), newComputer(t)
	dir := makeVersion(t, "sql", "1", "arm64", nil)
	for _, serial := range []int64{5, 5, 9} {
		if got, err := newComputer(t).publish(p.ref("1"), key, serial, dir); got != serial || err != nil {
			t.Errorf("serial %d: %d, %v", serial, got, err)
		}
	}
	if _, err := c.publish(p.ref("1"), key, 8, dir); err == nil || !strings.Contains(err.Error(), "lower than 9") {
		t.Errorf("a lower serial: %v", err)
	}
	// Serials are counted separately for each key.
	if got, err := c.publish(p.ref("1"), testKey(t, 2), 0, dir); got != 1 || err != nil {
		t.Errorf("another key: %d, %v", got, err)
	}
}
