package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sovereign-sql/sov/internal/strictjson"
)

// A Record is stored under a key. It names the output blobs and has what explanations and lists
// show.
type Record struct {
	Key     string    `json:"key"`
	Stage   string    `json:"stage"`
	Memo    string    `json:"memo,omitempty"` // the memo's own key; "" for the result of a stage
	Created time.Time `json:"created"`
	Seconds float64   `json:"seconds"` // how long it took to make
	Fields  []Field   `json:"fields"`
	Outputs []Output  `json:"outputs"`
	// Warnings are shown again whenever the record is used.
	Warnings []string `json:"warnings,omitempty"`
	// Memos are keys of the memos that the result used. Using the record also marks them as used.
	Memos []string `json:"memos,omitempty"`
	// Remote is the remote cache of blobs that the local store may lack; "" if it had all of them
	// when the record was written.
	Remote string `json:"remote,omitempty"`
	// From is the remote cache that the record, or a memo that it used, came from; "" if it was
	// made here. Signer is the ID of the key that signed it there; "" if no signature was required.
	From   string `json:"from,omitempty"`
	Signer string `json:"signer,omitempty"`
}

// TakenFrom returns the remote cache that the record was taken from, or "" if it was made here.
// Records that older versions stored have no From.
func (r *Record) TakenFrom() string {
	if r.From == "" {
		return r.Remote
	}
	return r.From
}

// A Field is one labelled value of a key.
type Field struct {
	Label string `json:"label"`
	// Kind is the encoding of Value: "string", "int", "bool", "bytes" (hex), "json", or "digest"
	// for a value that is too long to keep; Value is then "<kind> <length in bytes> <digest>".
	Kind  string `json:"kind"`
	Value string `json:"value"`
}

// Digests returns the blobs that a record names, each once.
func (r *Record) Digests() map[Digest]bool {
	all := map[Digest]bool{}
	for _, o := range r.Outputs {
		all[o.Digest] = true
	}
	return all
}

// Encode returns the record in the format of ParseRecord, without the remote cache and its signer:
// those apply to one store only.
func (r *Record) Encode() ([]byte, error) {
	out := *r
	out.Remote, out.From, out.Signer = "", "", ""
	return seal(out)
}

// A sealed file is JSON with a digest of its content, which detects damage.
type sealed struct {
	Digest  Digest          `json:"digest"`
	Content json.RawMessage `json:"content"`
}

func seal(v any) ([]byte, error) {
	content, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(sealed{DigestOf(content), content})
	return append(b, '\n'), err
}

// unseal checks and decodes the output of seal into v.
func unseal(b []byte, v any) error {
	var s sealed
	if err := strictjson.Unmarshal(b, &s); err != nil {
		return err
	}
	if DigestOf(s.Content) != s.Digest {
		return errors.New("its content does not match its digest")
	}
	return strictjson.Unmarshal(s.Content, v)
}

// ParseRecord decodes and checks a record that should be about key.
func ParseRecord(b []byte, key string) (*Record, error) {
	var a Record
	if err := unseal(b, &a); err != nil {
		return nil, err
	}
	if a.Key != key {
		return nil, fmt.Errorf("it is the record of %.64q", a.Key)
	}
	names := map[string]bool{}
	for _, o := range a.Outputs {
		if _, err := ParseDigest(string(o.Digest)); err != nil {
			return nil, fmt.Errorf("output %q: %w", o.Name, err)
		}
		if !ValidName(o.Name) || names[o.Name] || o.Size < 0 {
			return nil, fmt.Errorf("output %q of %d bytes: bad or repeated name, or bad size", o.Name, o.Size)
		}
		names[o.Name] = true
	}
	for _, m := range a.Memos {
		if !isHex64(m) {
			return nil, fmt.Errorf("memo %.64q is not a key", m)
		}
	}
	return &a, nil
}
