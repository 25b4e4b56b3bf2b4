package phone

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestForwardOnly checks that a phone with a trusted key accepts only versions signed with it that
// are not older than an earlier version. This holds for push and module, and after the machine was
// removed. The phone rolls back automatically and on request to versions that it has accepted.
func TestForwardOnly(t *testing.T) {
	t.Parallel()
	p := phonetest.NewPushed(t, androidtest.NewADBServer(t))
	p.Put(phonepath.Default.Settings(), `{"shutdown_timeout": 5}`, 0o644)
	if runtime.GOARCH == "amd64" {
		p.SetProp("ro.product.cpu.abi", "x86_64")
	}
	ours, other := artifacttest.Key(t, 1), artifacttest.Key(t, 2)
	files := t.TempDir()
	pem := func(name string, key dsse.PrivateKey) (public, private string) {
		t.Helper()
		public, private = filepath.Join(files, name+".pub"), filepath.Join(files, name+".pem")
		for path, encode := range map[string]func() ([]byte, error){public: key.Public().PEM, private: key.PEM} {
			text, err := encode()
			if err == nil {
				err = os.WriteFile(path, text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return public, private
	}
	public, private := pem("ours", ours)
	otherPublic, otherPrivate := pem("other", other)
	version := func(s lightguest.Script, key dsse.PrivateKey, serial int64) string {
		t.Helper()
		dir := t.TempDir()
		androidtest.LightArtifact(t, dir, "sql", vmspec.MainFirst, s)
		if key != nil {
			artifacttest.Sign(t, dir, key, serial)
		}
		return dir
	}
	sov := func(status int, says string, args ...string) sovtest.Outcome {
		t.Helper()
		o := p.Sov(append(args, "--device", p.ADB.Serial())...)
		if o.Status != status || !strings.Contains(o.Stdout+o.Stderr, says) {
			t.Fatalf("want status %d and %q: %v", status, says, o)
		}
		return o
	}
	push := func(status int, says, dir string, flags ...string) {
		t.Helper()
		sov(status, says, append([]string{"push", dir, "--no-secrets"}, flags...)...)
	}
	unsigned := version(lightguest.Script{Deaf: []string{"one"}}, nil, 0)
	one, eight := version(lightguest.Script{Deaf: []string{"two"}}, ours, 1), version(lightguest.Script{Deaf: []string{"three"}}, ours, 8)
	nine, foreign := version(lightguest.Script{Deaf: []string{"four"}}, ours, 9), version(lightguest.Script{Deaf: []string{"five"}}, other, 99)

	push(0, "into slot a", unsigned) // a phone without keys accepts any version
	sov(0, "key "+ours.Public().ID(), "phone", "trust", public)
	sov(0, "key "+ours.Public().ID(), "phone", "trust", "--list")
	push(3, "it is not signed", version(lightguest.Script{}, nil, 0))
	push(3, "which this phone does not trust", foreign)
	push(0, "serial 8", eight, "--start")
	push(0, "serial 9", nine, "--restart")
	status := &health.Machine{}
	if err := json.Unmarshal([]byte(sov(0, "", "status", "sql", "--json").Stdout), status); err != nil {
		t.Fatal(err)
	}
	if s := status.Slots[0]; s.SignedBy != ours.Public().ID() || s.Serial != 9 || !s.Current {
		t.Errorf("status says %+v", s)
	}
	sov(0, "serial 9", "status", "sql")
	push(3, "its serial 1 is lower than 9", one)

	// Another computer has not recorded the last serial, but the phone has.
	forget := func() {
		t.Helper()
		for _, e := range p.Environ() {
			if dir, ok := strings.CutPrefix(e, "SOV_STATE_DIR="); ok {
				if err := os.RemoveAll(filepath.Join(dir, "serials.json")); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	forget()
	push(3, "its serial 1 is lower than 9", one)

	// The same checks apply to the module.
	for says, dir := range map[string]string{"it is not signed": version(lightguest.Script{}, nil, 0), "is lower than 9": one, "does not trust": foreign} {
		if said, err := p.Flash(dir); err == nil || !strings.Contains(said+err.Error(), says) {
			t.Errorf("flashed %s: %s, %v", says, said, err)
		}
	}
	p.MustFlash(nine)

	// Roll back to versions that the phone has accepted.
	sov(0, "", "rollback", "sql")
	if s := p.Status(); s.Slot != "b" || s.Phase != runnerapi.Ready || s.Slots[1].Serial != 8 {
		t.Errorf("rolled back: %+v", s)
	}
	broken := version(lightguest.Script{End: lightguest.Panic}, ours, 10)
	push(0, "serial 10", broken)
	sov(1, "", "restart", "sql")
	if s := p.Status(); s.Slot != "b" || s.Phase != runnerapi.Ready || s.RollBack == nil {
		t.Errorf("rolled back automatically: %+v", s)
	}

	// After the machine and its data were removed, the phone still refuses an older version.
	sov(0, "is removed", "remove", "sql", "--data", "--yes")
	phonetest.Left(t, p.Handset, "removed", "./settings.json ./trust/keys.json ./trust/serials.json")
	forget()
	push(3, "is lower than 10", nine)
	push(3, "it is not signed", unsigned)
	push(0, "serial 9", nine, "--allow-downgrade")

	// A change of the trusted keys must be signed with one of them.
	sov(3, "must be signed", "phone", "trust", otherPublic)
	sov(1, "no key that this phone trusts has signed the change", "phone", "trust", otherPublic, "--sign", otherPrivate)
	sov(1, "no key that this phone trusts", "phone", "trust", "--remove", public, "--sign", otherPrivate)
	sov(0, other.Public().ID(), "phone", "trust", otherPublic, "--sign", private)
	push(0, "serial 99", foreign)
	sov(0, "key "+other.Public().ID(), "phone", "trust", "--remove", ours.Public().ID(), "--sign", otherPrivate)
	push(3, "does not trust", version(lightguest.Script{Deaf: []string{"six"}}, ours, 20))
	sov(0, "trusts no key", "phone", "trust", "--remove", otherPublic, "--sign", otherPrivate)
	push(0, "into slot", unsigned)
	sov(0, "is removed", "remove", "sql", "--data", "--yes")
}
