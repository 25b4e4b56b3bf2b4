// Package pushapi is the protocol between `sov push` and `sov-runner receive`, over one stream in
// each direction:
//
//	phone     hello    who it is, what it has installed, how much room there is
//	computer  offer    the new version's manifest.json, vm.json and signature, and how much of its files is not zeros
//	phone     base …   for each file that it has and could copy from, the list of its chunks; then bases, or refusal, or done
//	computer  data …   one zstd stream of instructions that make the files, one after the other; then end
//	phone     progress now and then, of what was written and verified
//	phone     done, or refusal
//
// Each message is a frame: a byte for its kind, four for its length, big-endian, and its payload,
// of at most MaxFrame bytes. Before the first frame, each side sends Magic, so that the output of a
// shell is recognised. Neither side waits for the other to close the stream, and the phone only
// uses data that it has verified against manifest.json.
//
// Version changes with every incompatible change. There is no negotiation: `sov push` first
// installs its own runner on the phone.
package pushapi

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
)

// Version is the protocol's version.
const Version = 1

// Magic is sent first in each direction.
const Magic = "sov-push"

// MaxFrame is the largest payload of a frame, in bytes.
const MaxFrame = 1 << 20

// A Kind is the type of a frame.
type Kind byte

// Kinds of frames.
const (
	KindHello    Kind = 'h'
	KindOffer    Kind = 'o'
	KindBase     Kind = 'b'
	KindList     Kind = 'l' // a part of a base's list of chunks
	KindBases    Kind = 'B' // the end of the bases
	KindData     Kind = 'd'
	KindEnd      Kind = 'e'
	KindProgress Kind = 'p'
	KindDone     Kind = 'D'
	KindRefusal  Kind = 'r'
)

// Hello describes the phone.
type Hello struct {
	Protocol int              `json:"protocol"`
	Chunks   int              `json:"chunks"`   // chunk.Version
	Manifest int              `json:"manifest"` // manifest.Format
	Spec     int              `json:"spec"`     // vmspec.Format
	Runner   string           `json:"runner"`   // the program's version
	Arch     string           `json:"arch"`     // of the machines that it runs
	Free     int64            `json:"free"`     // bytes
	Slots    []runnerapi.Slot `json:"slots"`
}

// Offer is the new version. It travels compressed.
type Offer struct {
	Manifest []byte  `json:"manifest"`         // manifest.json as it is
	Spec     []byte  `json:"spec"`             // vm.json as it is
	Data     []int64 `json:"data"`             // for each of its files, see installed.Files: bytes in chunks that are not zero
	Fresh    bool    `json:"fresh"`            // ignore the phone's notes about its files
	Signed   []byte  `json:"signed,omitempty"` // provenance.dsse.json; absent: the version is not signed
	// AllowDowngrade accepts a signed version with a lower serial than a previous one.
	AllowDowngrade bool `json:"allow_downgrade,omitempty"`
}

// Base is a file that the phone can copy from. Its list of chunks follows in one or more frames.
type Base struct {
	Name string `json:"name"` // for messages
	Size int64  `json:"size"`
	// Part, if not 0, says that the base is a partial file of an earlier push. It is the file's
	// index in this offer, from 1; the transfer may continue it.
	Part int `json:"part,omitempty"`
}

// Progress is the phone's progress.
type Progress struct {
	Written  int64 `json:"written"`  // bytes of the files, holes included
	Verified int64 `json:"verified"` // bytes read back
}

// Done is the result of a push.
type Done struct {
	Slot      string  `json:"slot"`
	Unchanged bool    `json:"unchanged"` // this version was already the phone's current one, intact
	CPU       float64 `json:"cpu"`       // CPU time on the phone, in seconds
}

// A Refusal says why the phone refuses the version. The current version does not change.
type Refusal struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Codes of refusals that the computer handles.
const (
	CodeFailed  = "failed"  // anything else
	CodeSpace   = "space"   // not enough space
	CodeDigest  = "digest"  // the assembled files do not match manifest.json: a base differs from its list
	CodeVersion = "version" // the versions of the two programs are incompatible
	CodeBusy    = "busy"    // another push is running

	CodeUntrusted = "untrusted" // the version is not signed with a key that the phone trusts
	CodeDowngrade = "downgrade" // the phone has accepted a version with a higher serial
)

func (r *Refusal) Error() string { return r.Text }

// A Conn is one side of the connection.
type Conn struct {
	r io.Reader
	w io.Writer
}

// NewConn returns a side that reads from r and writes to w.
func NewConn(r io.Reader, w io.Writer) *Conn { return &Conn{r, w} }

// Open sends Magic.
func (c *Conn) Open() error {
	_, err := io.WriteString(c.w, Magic)
	return err
}

// Accept reads the other side's Magic. The error quotes anything else, such as a shell's error
// about a program that it cannot run.
func (c *Conn) Accept() error {
	var got [len(Magic)]byte
	n, err := io.ReadFull(c.r, got[:])
	if err == nil && string(got[:]) == Magic {
		return nil
	}
	rest := make([]byte, 500)
	more := 0
	if err == nil {
		more, _ = io.ReadFull(c.r, rest)
	}
	said := strings.TrimSpace(strings.ToValidUTF8(string(got[:n])+string(rest[:more]), "?"))
	if said == "" {
		return fmt.Errorf("the other side said nothing: %w", unexpected(err))
	}
	return fmt.Errorf("the other side does not speak sov's protocol: it sent %q", said)
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// WriteFrame sends a frame.
func (c *Conn) WriteFrame(k Kind, payload []byte) error {
	if len(payload) > MaxFrame {
		return fmt.Errorf("a frame of %d bytes is too long", len(payload))
	}
	frame := binary.BigEndian.AppendUint32([]byte{byte(k)}, uint32(len(payload)))
	_, err := c.w.Write(append(frame, payload...))
	return err
}

// ReadFrame receives a frame.
func (c *Conn) ReadFrame() (Kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > MaxFrame {
		return 0, nil, fmt.Errorf("a frame of kind %q announces %d bytes, more than any has", head[0], n)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		return 0, nil, unexpected(err)
	}
	return Kind(head[0]), payload, nil
}

// Send sends a message as JSON.
func (c *Conn) Send(k Kind, message any) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	return c.WriteFrame(k, text)
}

// Receive reads a frame of the given kind into message. A received Refusal is returned as the
// error.
func (c *Conn) Receive(k Kind, message any) error {
	got, payload, err := c.ReadFrame()
	if err != nil {
		return unexpected(err)
	}
	if got != k {
		return Unexpected(got, payload)
	}
	return Decode(payload, message)
}

// Decode reads a message that is JSON.
func Decode(payload []byte, message any) error {
	if err := json.Unmarshal(payload, message); err != nil {
		return fmt.Errorf("a message is not JSON: %w", err)
	}
	return nil
}

// Unexpected returns the error for an unexpected frame. A Refusal is returned itself.
func Unexpected(k Kind, payload []byte) error {
	if k != KindRefusal {
		return fmt.Errorf("a frame of kind %q was not expected here", byte(k))
	}
	r := &Refusal{}
	if err := Decode(payload, r); err != nil {
		return err
	}
	return r
}

// maxOffer is the largest JSON of an offer, in bytes: two texts of installed.MaxText and a
// signature, in base64.
const maxOffer = 16 << 20

// SendOffer sends an offer.
func (c *Conn) SendOffer(o Offer) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if len(text) > maxOffer {
		return fmt.Errorf("manifest.json, vm.json and the signature are too long to be sent: %d bytes", len(text))
	}
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		return err
	}
	defer encoder.Close()
	return c.WriteFrame(KindOffer, encoder.EncodeAll(text, nil))
}

// DecodeOffer reads an offer's payload.
func DecodeOffer(payload []byte) (*Offer, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxOffer), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	text, err := decoder.DecodeAll(payload, nil)
	if err != nil {
		return nil, fmt.Errorf("an offer that cannot be decompressed: %w", err)
	}
	o := &Offer{}
	return o, Decode(text, o)
}

// A frameWriter sends what is written to it as frames of one kind.
type frameWriter struct {
	c *Conn
	k Kind
}

// Writer returns a writer of frames of a kind. It does not buffer.
func (c *Conn) Writer(k Kind) io.Writer { return frameWriter{c, k} }

func (w frameWriter) Write(b []byte) (int, error) {
	sent := 0
	for len(b) > sent {
		part := b[sent:min(len(b), sent+MaxFrame)]
		if err := w.c.WriteFrame(w.k, part); err != nil {
			return sent, err
		}
		sent += len(part)
	}
	return sent, nil
}

// A frameReader reads the payloads of frames of one kind.
type frameReader struct {
	c    *Conn
	k    Kind
	end  Kind
	left []byte
	err  error
}

// Reader returns a reader of the payloads of frames of kind k, up to and including a frame of kind
// end.
func (c *Conn) Reader(k, end Kind) io.Reader { return &frameReader{c: c, k: k, end: end} }

func (r *frameReader) Read(b []byte) (int, error) {
	for len(r.left) == 0 && r.err == nil {
		kind, payload, err := r.c.ReadFrame()
		switch {
		case err != nil:
			r.err = unexpected(err)
		case kind == r.end:
			r.err = io.EOF
		case kind != r.k:
			r.err = Unexpected(kind, payload)
		default:
			r.left = payload
		}
	}
	if len(r.left) == 0 {
		return 0, r.err
	}
	n := copy(b, r.left)
	r.left = r.left[n:]
	return n, nil
}
