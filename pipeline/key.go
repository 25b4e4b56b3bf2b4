package pipeline

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"unicode/utf8"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// engineFormat is part of every key. It changes with the format of keys or records, which
// invalidates everything cached before.
const engineFormat = 1

// maxFieldText is the length in bytes up to which the action record keeps a field's value, to show
// its changes. For a longer value it keeps the digest.
const maxFieldText = 4 << 10

// A Key collects the fields that decide a stage's output and hashes them.
//
// The hash is SHA-256 over all fields in the order of adding: label, kind of the value and value,
// each preceded by its length in 8 bytes. Two different lists of fields never give the same bytes.
type Key struct {
	fields []store.Field
	labels map[string]bool
	hash   hash.Hash
	err    error
}

func newKey() *Key {
	return &Key{labels: map[string]bool{}, hash: sha256.New()}
}

// Add adds a field. Labels are unique within a key, and the order of adding counts. A value is a
// string, []byte, bool, integer or Digest, or anything else that encoding/json can write; maps are
// written in the order of their keys. An unsupported value or a repeated label fails the build when
// Key returns.
func (k *Key) Add(label string, value any) {
	if k.err != nil {
		return
	}
	kind, text, err := canonical(value)
	switch {
	case err != nil:
		k.err = fmt.Errorf("key field %q: %w", label, err)
	case label == "" || !utf8.ValidString(label):
		k.err = fmt.Errorf("key field %q: a label is non-empty UTF-8", label)
	case k.labels[label]:
		k.err = fmt.Errorf("key field %q is added twice", label)
	}
	if k.err != nil {
		return
	}
	k.labels[label] = true
	writeLengthPrefixed(k.hash, []byte(label))
	writeLengthPrefixed(k.hash, []byte(kind))
	writeLengthPrefixed(k.hash, text)
	k.fields = append(k.fields, recordedField(label, kind, text))
}

// sum returns the key as 64 hex digits.
func (k *Key) sum() (string, error) {
	if k.err != nil {
		return "", k.err
	}
	return hex.EncodeToString(k.hash.Sum(nil)), nil
}

func writeLengthPrefixed(h hash.Hash, b []byte) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(b)))
	h.Write(n[:])
	h.Write(b)
}

// canonical returns the kind and the canonical encoding of a value.
func canonical(value any) (kind string, text []byte, err error) {
	switch v := value.(type) {
	case string:
		return "string", []byte(v), nil
	case Digest:
		return "string", []byte(v), nil
	case []byte:
		return "bytes", v, nil
	case bool:
		return "bool", fmt.Append(nil, v), nil
	case int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
		return "int", fmt.Append(nil, v), nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return "", nil, err
	}
	return "json", bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// recordedField shortens a field for the action record.
func recordedField(label, kind string, text []byte) store.Field {
	switch {
	case len(text) > maxFieldText || kind == "string" && !utf8.Valid(text):
		return store.Field{Label: label, Kind: "digest", Value: fmt.Sprintf("%s %d %s", kind, len(text), DigestOf(text))}
	case kind == "bytes":
		return store.Field{Label: label, Kind: kind, Value: hex.EncodeToString(text)}
	}
	return store.Field{Label: label, Kind: kind, Value: string(text)}
}
