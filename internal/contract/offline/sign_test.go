package offline

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
)

// TestSigned: bundles of unknown signers are refused.
func TestSigned(t *testing.T) {
	key, err := dsse.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := dsse.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bundle := func(text string) string {
		t.Helper()
		sum := sha256.Sum256([]byte(text))
		var b bytes.Buffer
		err := Write(&b, &Index{Format: Format, Recipe: "x", Arch: "arm64", Items: []Item{{Kind: Recipe, Name: "x", Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:])}}},
			func(Item) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil })
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "x.sovbundle")
		if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	mine, changed, strangers, unsigned := bundle("mine"), bundle("mine"), bundle("strangers"), bundle("unsigned")
	for name, key := range map[string]dsse.PrivateKey{mine: key, changed: key, strangers: other} {
		if err := Sign(name, key); err != nil {
			t.Fatal(err)
		}
	}
	swapped := bundle("swapped")
	signature, err := os.ReadFile(SignatureOf(mine))
	if err == nil {
		err = os.WriteFile(SignatureOf(swapped), signature, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]bool{mine: false, strangers: true, unsigned: true, swapped: true} {
		b, err := OpenSigned(name, key.Public())
		if errors.Is(err, dsse.ErrRefused) != bad || !bad && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.Close()
		if b, err = OpenSigned(name, nil); err != nil {
			t.Errorf("%s, no key: %v", name, err)
		}
		b.Close()
	}
	// The content is compared with the signed list.
	b, err := os.ReadFile(changed)
	if err == nil {
		err = os.WriteFile(changed, bytes.Replace(b, []byte("mine\x00"), []byte("mind\x00"), 1), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	opened, err := OpenSigned(changed, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if text, err := opened.Bytes(Recipe, "x"); err == nil {
		t.Errorf("a changed bundle has %q", text)
	}
}
