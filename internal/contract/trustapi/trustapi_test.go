package trustapi

import (
	"bytes"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
)

// FuzzDecode: with keys, only a change that a trusted key has sealed is accepted. Without keys, any
// valid change is accepted.
func FuzzDecode(f *testing.F) {
	key, err := dsse.NewKey(bytes.NewReader(bytes.Repeat([]byte{1}, 32)))
	if err != nil {
		f.Fatal(err)
	}
	change := Change{Remove: "0", Challenge: "c"}
	good, err := change.Encode(key)
	if err != nil {
		f.Fatal(err)
	}
	plain, err := change.Encode(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(plain)
	f.Fuzz(func(t *testing.T, file []byte) {
		if c, err := Decode(file, []dsse.PublicKey{key.Public()}); err == nil && !bytes.Equal(file, good) {
			t.Errorf("%q is taken as %+v", file, c)
		}
		if c, err := Decode(file, nil); err == nil && (len(c.Add) > 0) == (c.Remove != "") {
			t.Errorf("%q is taken as %+v", file, c)
		}
	})
}
