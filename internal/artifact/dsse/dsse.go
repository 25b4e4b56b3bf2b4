// Package dsse signs texts with Ed25519 keys and verifies what was signed: the
// Dead Simple Signing Envelope, https://github.com/secure-systems-lab/dsse.
//
// Open accepts only the exact bytes that Seal writes for a content and signature: no other white
// space, order, spelling or base64, so that every changed bit of the file is detected. Other DSSE
// programs can read these envelopes; Open may refuse envelopes of other programs.
package dsse

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// An Envelope is a text of a type with the signatures over both.
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     string      `json:"payload"` // base64
	Signatures  []Signature `json:"signatures"`
}

// A Signature is by one key over the envelope's type and payload.
type Signature struct {
	KeyID string `json:"keyid"` // see PublicKey.ID
	Sig   string `json:"sig"`   // base64
}

// ErrRefused matches the error for an envelope that was changed, was signed by another key, or is
// not signed.
var ErrRefused = errors.New("the signature does not hold")

var encoding = base64.StdEncoding.Strict()

// decode decodes base64 and refuses every non-canonical form. The decoder alone would ignore line
// breaks.
func decode(text string) ([]byte, error) {
	b, err := encoding.DecodeString(text)
	if err == nil && encoding.EncodeToString(b) != text {
		err = errors.New("it has line ends")
	}
	return b, err
}

// pae returns the pre-authentication encoding, which is signed (protocol.md, "Signature
// Definition"): type and payload, each after its length, so that the encoding is unambiguous.
func pae(payloadType string, payload []byte) []byte {
	b := append([]byte("DSSEv1 "), strconv.Itoa(len(payloadType))+" "+payloadType+" "+strconv.Itoa(len(payload))+" "...)
	return append(b, payload...)
}

// Seal returns an envelope with one signature. The same key and payload give the same bytes
// (Ed25519 is deterministic, RFC 8032).
func Seal(key PrivateKey, payloadType string, payload []byte) ([]byte, error) {
	return encode(&Envelope{
		PayloadType: payloadType,
		Payload:     encoding.EncodeToString(payload),
		Signatures: []Signature{{
			KeyID: key.Public().ID(),
			Sig:   encoding.EncodeToString(key.Sign(pae(payloadType, payload))),
		}},
	})
}

func encode(e *Envelope) ([]byte, error) {
	var b bytes.Buffer
	j := json.NewEncoder(&b)
	j.SetEscapeHTML(false) // "+" and "/" are base64
	j.SetIndent("", "  ")
	if err := j.Encode(e); err != nil {
		return nil, fmt.Errorf("encode envelope: %w", err)
	}
	return b.Bytes(), nil
}

// Open verifies an envelope's signature with key and returns the payload. The payload must have the
// given type. Errors match ErrRefused.
func Open(key PublicKey, payloadType string, file []byte) ([]byte, error) {
	e, payload, err := Peek(payloadType, file)
	if err != nil {
		return nil, err
	}
	s := e.Signatures[0]
	if s.KeyID != key.ID() {
		return nil, refused("it was signed by key %.64q, not by %s", s.KeyID, key.ID())
	}
	sig, err := decode(s.Sig)
	if err != nil || !ed25519.Verify(ed25519.PublicKey(key), pae(e.PayloadType, payload), sig) {
		return nil, refused("the signature is not that of key %s over this content", key.ID())
	}
	return payload, nil
}

// Peek decodes an envelope without verifying its signature: do not trust the result. Errors match
// ErrRefused.
func Peek(payloadType string, file []byte) (*Envelope, []byte, error) {
	e := &Envelope{}
	if err := json.Unmarshal(file, e); err != nil {
		return nil, nil, refused("not an envelope: %v", err)
	}
	if e.PayloadType != payloadType {
		return nil, nil, refused("it holds %.80q instead of %s", e.PayloadType, payloadType)
	}
	payload, err := decode(e.Payload)
	if err != nil {
		return nil, nil, refused("its payload is not base64: %v", err)
	}
	if len(e.Signatures) != 1 {
		return nil, nil, refused("it has %d signatures, one is expected", len(e.Signatures))
	}
	if canonical, err := encode(e); err != nil || !bytes.Equal(canonical, file) {
		return nil, nil, refused("it is not written as sov writes envelopes")
	}
	return e, payload, nil
}

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}
