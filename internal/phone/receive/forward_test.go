package receive

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/contract/pushapi"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/contract/trustapi"
	"github.com/sovereign-sql/sov/internal/phone/slots"
	"github.com/sovereign-sql/sov/internal/phone/trust"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
)

// A trustee is a phone that installs versions of a machine, and may trust keys.
type trustee struct {
	*Receiver
	t *testing.T
}

func newTrustee(t *testing.T) trustee { return trustee{newReceiver(t, t.TempDir()), t} }

// trusts adds a trusted key to the phone.
func (p trustee) trusts(key dsse.PrivateKey) {
	p.t.Helper()
	der, err := key.Public().DER()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.change(trustapi.Change{Add: der}, nil); err != nil {
		p.t.Fatal(err)
	}
}

func (p trustee) change(c trustapi.Change, by dsse.PrivateKey) error {
	store := trust.Of(p.VM.Root())
	now, err := store.List()
	if err != nil {
		p.t.Fatal(err)
	}
	c.Challenge = now.Challenge
	text, err := c.Encode(by)
	if err != nil {
		p.t.Fatal(err)
	}
	_, err = store.Change(text)
	return err
}

// installs installs an artifact. code is the code of the expected refusal, or empty.
func (p trustee) installs(dir, code string) {
	p.t.Helper()
	before := slots.List(p.VM)
	_, err := p.Install(p.t.Context(), os.DirFS(dir), nil)
	var refusal *pushapi.Refusal
	switch {
	case code == "" && err != nil:
		p.t.Errorf("%v", err)
	case code != "" && (!errors.As(err, &refusal) || refusal.Code != code):
		p.t.Errorf("want a refusal %s, got: %v", code, err)
	case code != "" && !slices.Equal(before, slots.List(p.VM)):
		p.t.Errorf("a refusal changed slots: %+v", slots.List(p.VM))
	}
}

func (p trustee) current() runnerapi.Slot {
	p.t.Helper()
	for _, s := range slots.List(p.VM) {
		if s.Current {
			return s
		}
	}
	p.t.Fatal("there is no current slot")
	return runnerapi.Slot{}
}

// make makes a version of the machine, signed with serial if key is not nil.
func (p trustee) make(version string, key dsse.PrivateKey, serial int64) string {
	dir := artifacttest.Make(p.t, "sql", version, artifacttest.Noise(9000, 3), []byte("rootfs of "+version))
	if key != nil {
		artifacttest.Sign(p.t, dir, key, serial)
	}
	return dir
}

// TestOlderVersion: a phone that has installed a signed version refuses versions of the same key
// with a lower serial, also after the machine's folder was removed.
func TestOlderVersion(t *testing.T) {
	p, key := newTrustee(t), artifacttest.Key(t, 1)
	one, eight, nine := p.make("1", key, 1), p.make("8", key, 8), p.make("9", key, 9)
	p.installs(eight, "")
	p.installs(nine, "")
	if now := p.current(); now.SignedBy != key.Public().ID() || now.Serial != 9 {
		t.Errorf("the slot says %+v", now)
	}
	p.installs(one, pushapi.CodeDowngrade)
	// The previous version is in the other slot. Neither rolling back to it nor installing it again
	// is a downgrade.
	if slot, err := slots.RollBack(p.VM); err != nil || slot.Serial != 8 {
		t.Errorf("rolled back to %+v, %v", slot, err)
	}
	p.installs(eight, "")
	p.installs(one, pushapi.CodeDowngrade)
	if err := os.RemoveAll(p.VM.Dir()); err != nil {
		t.Fatal(err)
	}
	p.installs(eight, pushapi.CodeDowngrade)
	p.AllowDowngrade = true
	p.installs(eight, "")
	p.AllowDowngrade = false
	p.installs(one, pushapi.CodeDowngrade)
	// An unsigned version, or a version with another key, has no serial to compare. Without trusted
	// keys it is accepted.
	p.installs(p.make("2", nil, 0), "")
	p.installs(p.make("3", artifacttest.Key(t, 2), 1), "")
}

// TestTrustedKey: a phone that trusts a key accepts only versions that this key has signed.
func TestTrustedKey(t *testing.T) {
	p, key, other := newTrustee(t), artifacttest.Key(t, 1), artifacttest.Key(t, 2)
	unsigned, signed := p.make("1", nil, 0), p.make("2", key, 1)
	p.installs(unsigned, "")
	p.trusts(key)
	p.installs(unsigned, "") // it is installed already
	p.installs(p.make("3", nil, 0), pushapi.CodeUntrusted)
	p.installs(p.make("4", other, 99), pushapi.CodeUntrusted)
	p.installs(signed, "")
	if slot, err := slots.RollBack(p.VM); err != nil || slot.SignedBy != "" {
		t.Errorf("back to the version that was there before: %+v, %v", slot, err)
	}
	p.AllowDowngrade = true // applies to serials only
	p.installs(p.make("5", nil, 0), pushapi.CodeUntrusted)
	// A signature of another version, and damaged signatures.
	mixed := p.make("6", nil, 0)
	envelope, err := os.ReadFile(signed + "/provenance.dsse.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{envelope, {}, envelope[:len(envelope)-1]} {
		if err := os.WriteFile(mixed+"/provenance.dsse.json", text, 0o644); err != nil {
			t.Fatal(err)
		}
		p.installs(mixed, pushapi.CodeUntrusted)
	}
}

// TestSignedAfterwards: a later signature of an installed version is stored with it.
func TestSignedAfterwards(t *testing.T) {
	p, key := newTrustee(t), artifacttest.Key(t, 1)
	dir := p.make("1", nil, 0)
	p.installs(dir, "")
	artifacttest.Sign(t, dir, key, 4)
	p.installs(dir, "")
	if now := p.current(); now.Serial != 4 {
		t.Errorf("%+v", now)
	}
}

// TestChangeOfTrust: once a phone has a key, it accepts only a change that this key has signed,
// once and on this phone.
func TestChangeOfTrust(t *testing.T) {
	p, key, next := newTrustee(t), artifacttest.Key(t, 1), artifacttest.Key(t, 2)
	p.trusts(key)
	der, err := next.Public().DER()
	if err != nil {
		t.Fatal(err)
	}
	add, remove := trustapi.Change{Add: der}, trustapi.Change{Remove: key.Public().ID()}
	for what, err := range map[string]error{
		"unsigned, a key": p.change(add, nil), "unsigned, a removal": p.change(remove, nil),
		"by another key": p.change(remove, next), "neither": p.change(trustapi.Change{}, key),
	} {
		if err == nil {
			t.Errorf("%s: the change was taken", what)
		}
	}
	if err := p.change(trustapi.Change{Remove: next.Public().ID()}, key); err == nil {
		t.Error("a key was removed that is not there")
	}
	store := trust.Of(p.VM.Root())
	now, err := store.List()
	if err != nil {
		t.Fatal(err)
	}
	add.Challenge = now.Challenge
	text, err := add.Encode(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trust.Of(newTrustee(t).VM.Root()).Change(text); err == nil {
		t.Error("another phone took the change")
	}
	if list, err := store.Change(text); err != nil || len(list.Keys) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := store.Change(text); err == nil || !strings.Contains(err.Error(), "have changed since") {
		t.Errorf("the same change twice: %v", err)
	}
	p.installs(p.make("1", next, 1), "")
	for _, k := range []dsse.PrivateKey{key, next} {
		if err := p.change(trustapi.Change{Remove: k.Public().ID()}, next); err != nil {
			t.Error(err)
		}
	}
	p.installs(p.make("2", nil, 0), "")
}

// TestDamagedTrust: unreadable keys or serials are an error. They do not count as missing.
func TestDamagedTrust(t *testing.T) {
	for _, path := range []string{"keys.json", "serials.json"} {
		p, key := newTrustee(t), artifacttest.Key(t, 1)
		p.trusts(key)
		p.installs(p.make("1", key, 1), "")
		file := p.VM.Root().Trust() + "/" + path
		for _, text := range []string{"", "{", `{"format": 9}`, "null"} {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Install(t.Context(), os.DirFS(p.make("2", key, 2)), nil); err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("%s is %q: %v", path, text, err)
			}
		}
	}
}
