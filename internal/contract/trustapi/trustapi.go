// Package trustapi is what `sov phone trust` and `sov-runner trust` say to each other: the public
// keys that a phone requires signatures of, and changes of that list.
//
// The first key needs no signature: a phone without keys takes versions of any signer. Every later
// change is signed with a key that the phone has, over a challenge that the phone replaces with
// each change, so that no change can be used twice or on another phone.
package trustapi

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/strictjson"
)

// PayloadType is that of a signed Change.
const PayloadType = "application/vnd.sov.trust-change.v1+json"

// MaxChange bounds a change, in bytes.
const MaxChange = 64 << 10

// A List is what `sov-runner trust --json` prints.
type List struct {
	Keys      []string `json:"keys"`      // IDs of the keys, see dsse.PublicKey.ID; none: versions need no signature
	Challenge string   `json:"challenge"` // what the next change must name
}

// A Change adds a key or removes one.
type Change struct {
	Add       []byte `json:"add,omitempty"`    // a public key: SubjectPublicKeyInfo, in DER
	Remove    string `json:"remove,omitempty"` // ID of a key
	Challenge string `json:"challenge"`
}

// Encode returns a change as it is sent, signed with a key that the phone has; nil: unsigned.
func (c Change) Encode(key dsse.PrivateKey) ([]byte, error) {
	text, err := json.Marshal(c)
	if err != nil || key == nil {
		return text, err
	}
	return dsse.Seal(key, PayloadType, text)
}

// Decode reads a change that one of the keys has signed. Without keys it is unsigned.
func Decode(file []byte, keys []dsse.PublicKey) (*Change, error) {
	if len(file) > MaxChange {
		return nil, fmt.Errorf("a change of the trusted keys has at most %d bytes, this one has %d", MaxChange, len(file))
	}
	text, err := file, error(nil)
	for _, key := range keys {
		if text, err = dsse.Open(key, PayloadType, file); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("no key that this phone trusts has signed the change: sign it with one of them (--sign): %w", err)
	}
	c := &Change{}
	if err := strictjson.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("decode the change of the trusted keys: %w", err)
	}
	if (len(c.Add) > 0) == (c.Remove != "") {
		return nil, errors.New("a change of the trusted keys must add one key or remove one")
	}
	return c, nil
}
