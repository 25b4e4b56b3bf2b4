package build

import (
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestPublishedMachineIsTrustedByItsKey builds, signs and publishes a machine on one computer, and
// pulls and verifies it on another that has only the public key. A flipped bit in any file is
// detected.
func TestPublishedMachineIsTrustedByItsKey(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(server.Close)
	ref := strings.TrimPrefix(server.URL, "http://") + "/team/small:1"
	theirs, ours := t.TempDir(), t.TempDir()
	in := func(dir string, args ...string) sovtest.Outcome {
		return sovtest.Run(t, func(c *exec.Cmd) {
			c.Dir = dir
			c.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "SOV_STATE_DIR="+dir, "SOV_CACHE_DIR="+filepath.Join(dir, "cache"))
		}, args...)
	}
	must := func(o sovtest.Outcome, said string) sovtest.Outcome {
		t.Helper()
		if o.Status != 0 || !strings.Contains(o.Stdout, said) {
			t.Fatalf("want %q: %v", said, o)
		}
		return o
	}
	must(in(theirs, "key", "new", "key.pem"), "wrote key.pem")
	public := must(in(theirs, "key", "public", "key.pem"), "BEGIN PUBLIC KEY").Stdout
	if built := sovtest.SmallBuild(t, theirs, nil, "--kernel", sovtest.ArmKernel(t, sovtest.AllOptions()), "--sign", "key.pem"); built.Status != 0 {
		t.Fatal(built)
	}
	if refused := in(theirs, "publish", "small", ref); refused.Status != 1 || !strings.Contains(refused.Stderr, "its signature is for no registry") {
		t.Errorf("published what is signed for no registry: %v", refused)
	}
	must(in(theirs, "publish", "small", ref, "--sign", "key.pem"), "signed with serial 1")

	if err := os.WriteFile(filepath.Join(ours, "sov.pub"), []byte(public), 0o644); err != nil {
		t.Fatal(err)
	}
	must(in(ours, "pull", ref, "--key", "sov.pub"), "out/small/arm64 is ready: small ")
	must(in(ours, "verify", "out/small/arm64", "--key", "sov.pub"), "signed by key")
	must(in(ours, "pull", ref, "--key", "sov.pub"), "is up to date")
	if differ := in(ours, "diff", filepath.Join(theirs, "out/small/arm64"), "out/small/arm64"); differ.Status != 0 {
		t.Error(differ)
	}
	flipBits(t, filepath.Join(ours, "out/small/arm64"), func() sovtest.Outcome { return in(ours, "verify", "out/small/arm64", "--key", "sov.pub") })

	verifiesWithoutSov(t, ours)
	turnsBack(t, ref, func() {
		second := func(recipe string) string { return strings.Replace(recipe, `version: "1"`, `version: "2"`, 1) }
		if built := sovtest.SmallBuild(t, theirs, second, "--kernel", sovtest.ArmKernel(t, sovtest.AllOptions())); built.Status != 0 {
			t.Fatal(built)
		}
		must(in(theirs, "publish", "small", ref, "--sign", "key.pem"), "signed with serial 2")
		must(in(ours, "pull", ref, "--key", "sov.pub"), "small 2, signed by key")
	})
	if refused := in(ours, "pull", ref, "--key", "sov.pub"); refused.Status != 3 || !strings.Contains(refused.Stderr, "its serial 1 is lower than 2") {
		t.Errorf("the tag was turned back: %v", refused)
	}
	must(in(ours, "pull", ref, "--key", "sov.pub", "--allow-downgrade"), "serial 1")

	must(in(ours, "key", "new", "other.pem"), "wrote")
	other := must(in(ours, "key", "public", "other.pem"), "BEGIN").Stdout
	if err := os.WriteFile(filepath.Join(ours, "other.pub"), []byte(other), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"verify", "out/small/arm64", "--key", "other.pub"}, {"pull", ref, "--key", "other.pub", "-o", "new"}} {
		if refused := in(ours, args...); refused.Status != 3 {
			t.Errorf("another key, %s: %v", args[0], refused)
		}
	}
}

// verifiesWithoutSov runs the commands of docs/trust.md that do not need sov in dir, which contains
// the artifact and the key.
func verifiesWithoutSov(t *testing.T, dir string) {
	t.Helper()
	for _, program := range []string{"jq", "openssl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Logf("not verified without sov: %v", err)
			return
		}
	}
	text, err := os.ReadFile(filepath.Join(sovtest.Root(), "docs", "trust.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "Without sov:\n\n<!-- run: built -->\n\n")
	block, _, found := strings.Cut(block, "\n\n")
	script := strings.NewReplacer("out/sql/", "out/small/", "../../../sov.pub", filepath.Join(dir, "sov.pub"), "/tmp/", t.TempDir()+"/").Replace(block)
	c := exec.Command("bash", "-e", "-o", "pipefail", "-c", script)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if !found || err != nil || !strings.Contains(string(out), "Signature Verified Successfully") {
		t.Errorf("%s\n%v: %s", script, err, out)
	}
}

// turnsBack calls next and then restores the previous state of a tag, as an attacker with write
// access to the registry can.
func turnsBack(t *testing.T, ref string, next func()) {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	before, err := remote.Get(tag)
	if err != nil {
		t.Fatal(err)
	}
	next()
	if err := remote.Tag(tag, before); err != nil {
		t.Fatal(err)
	}
}

// flipBits flips a bit at the beginning, in the middle and at the end of each file in dir. Each
// time, verify must detect it.
func flipBits(t *testing.T, dir string, verify func() sovtest.Outcome) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range []int{0, len(good) / 2, len(good) - 1} {
			bad := bytes.Clone(good)
			bad[at] ^= 1 << (i * 2)
			if err := os.WriteFile(path, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			if found := verify(); found.Status != 3 {
				t.Errorf("byte %d of %s: %v", at, e.Name(), found)
			}
		}
		if err := os.WriteFile(path, good, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
