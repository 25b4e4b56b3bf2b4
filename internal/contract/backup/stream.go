package backup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// A stream begins with magic. Frames follow: a type byte, a length in 32 bits, big-endian, and that
// many bytes.
const magic = "sov backup 1\n"

const (
	framePart  = 'P' // JSON, a Part: its content follows
	frameData  = 'D' // of the part
	frameEnd   = 'E' // empty: the part is complete
	frameAlive = 'A' // empty: the sender is still working
	frameLast  = 'Z' // the stream is complete: SHA-256 of everything before
	frameFault = 'X' // text: why the stream is incomplete
)

// alive is the interval of keep-alive frames.
const alive = 5 * time.Second

const (
	maxFrame = 1 << 20 // bytes
	maxParts = 10000   // of a stream
)

// A Writer writes a stream. Alive may be called while another goroutine writes.
type Writer struct {
	mu  sync.Mutex
	w   io.Writer
	sum hash.Hash // of what was written
	err error
}

// NewWriter begins a stream.
func NewWriter(w io.Writer) *Writer {
	s := &Writer{w: w, sum: sha256.New()}
	s.put([]byte(magic))
	return s
}

func (s *Writer) put(b []byte) {
	if s.err == nil {
		s.sum.Write(b)
		_, s.err = s.w.Write(b)
	}
}

func (s *Writer) frame(kind byte, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frameLocked(kind, payload)
}

func (s *Writer) frameLocked(kind byte, payload []byte) error {
	header := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload)))
	s.put(append(header, payload...))
	return s.err
}

// Begin begins a part; its content is written by Write.
func (s *Writer) Begin(p Part) error {
	payload, err := json.Marshal(p)
	if err == nil && len(payload) > maxFrame {
		err = fmt.Errorf("the description of a part has %d bytes, more than %d", len(payload), maxFrame)
	}
	if err != nil {
		return err
	}
	return s.frame(framePart, payload)
}

// Write implements io.Writer for the content of the part that was begun.
func (s *Writer) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		piece := p[done:min(len(p), done+maxFrame)]
		if err := s.frame(frameData, piece); err != nil {
			return done, err
		}
		done += len(piece)
	}
	return len(p), nil
}

// End ends the part that was begun.
func (s *Writer) End() error { return s.frame(frameEnd, nil) }

// Alive sends a keep-alive frame.
func (s *Writer) Alive() error { return s.frame(frameAlive, nil) }

// KeepAlive calls Alive every few seconds until ctx is done. The next write returns an error of it.
func (s *Writer) KeepAlive(ctx context.Context) {
	ticker := time.NewTicker(alive)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.Alive()
		}
	}
}

// Close completes the stream.
func (s *Writer) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frameLocked(frameLast, s.sum.Sum(nil))
}

// Fail ends the stream with the reason why it is incomplete.
func (s *Writer) Fail(reason string) error {
	return s.frame(frameFault, []byte(reason[:min(len(reason), maxFrame)]))
}

// A Reader reads a stream.
type Reader struct {
	r     *bufio.Reader
	sum   hash.Hash // of what was read
	begun bool
	parts int
	open  *content
	done  bool
}

// NewReader returns a reader of a stream.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 64<<10), sum: sha256.New()}
}

var errBroken = errors.New("the backup's stream is not what was sent")

// Next returns the next part and its content. The error is io.EOF only at the end of a complete and
// verified stream. Until then the data that was read is not verified.
func (s *Reader) Next() (Part, io.Reader, error) {
	var p Part
	if s.done {
		return p, nil, io.EOF
	}
	if err := s.begin(); err != nil {
		return p, nil, err
	}
	if s.open != nil {
		if _, err := io.Copy(io.Discard, s.open); err != nil {
			return p, nil, err
		}
		s.open = nil
	}
	kind, payload, err := s.frame()
	switch {
	case err != nil:
		return p, nil, err
	case kind == frameLast:
		s.done = true
		return p, nil, io.EOF // frame has compared the digest
	case kind != framePart || s.parts == maxParts:
		return p, nil, errBroken
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return p, nil, errBroken
	}
	if err := p.known(); err != nil {
		return p, nil, err
	}
	if !p.valid() {
		return p, nil, errBroken
	}
	s.parts++
	s.open = &content{s: s}
	return p, s.open, nil
}

// valid reports whether a part is valid.
func (p Part) valid() bool {
	switch p.Kind {
	case KindRoles:
		return p.Database == nil && p.Service == nil
	case KindDatabase:
		return p.Database != nil && p.Database.Name != "" && p.Service == nil
	case KindPaths, KindStream:
		return p.Service != nil && p.Service.valid() && (len(p.Service.Paths) > 0) == (p.Kind == KindPaths) && p.Database == nil
	}
	return false
}

// maxPaths bounds the paths of a service.
const maxPaths = 1000

func (s *Service) valid() bool {
	return guestspec.ValidServiceName(s.Name) && len(s.Paths) <= maxPaths && !slices.ContainsFunc(s.Paths, func(name string) bool {
		return !path.IsAbs(name) || path.Clean(name) != name || name == "/" || strings.ContainsRune(name, 0)
	})
}

// known returns an error for an unknown kind, from a newer version of sov.
func (p Part) known() error {
	switch p.Kind {
	case KindRoles, KindDatabase, KindPaths, KindStream:
		return nil
	}
	return fmt.Errorf("it holds a part of the kind %q, which this sov does not know: use a newer sov", p.Kind)
}

func (s *Reader) begin() error {
	if s.begun {
		return nil
	}
	got := make([]byte, len(magic))
	if _, err := io.ReadFull(s.r, got); err != nil {
		return cut(err)
	}
	if string(got) != magic {
		return errBroken
	}
	s.sum.Write(got)
	s.begun = true
	return nil
}

// frame reads the next frame that is not a keep-alive.
func (s *Reader) frame() (byte, []byte, error) {
	for {
		var header [5]byte
		if _, err := io.ReadFull(s.r, header[:]); err != nil {
			return 0, nil, cut(err)
		}
		size := binary.BigEndian.Uint32(header[1:])
		if size > maxFrame {
			return 0, nil, errBroken
		}
		payload := make([]byte, size)
		if _, err := io.ReadFull(s.r, payload); err != nil {
			return 0, nil, cut(err)
		}
		switch {
		case header[0] == frameFault:
			return 0, nil, errors.New(string(payload))
		case header[0] == frameLast && !bytes.Equal(payload, s.sum.Sum(nil)):
			return 0, nil, errBroken
		}
		s.sum.Write(header[:])
		s.sum.Write(payload)
		if header[0] != frameAlive {
			return header[0], payload, nil
		}
	}
}

// cut converts io.EOF to an error: a stream ends with its own frame.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// content is that of a part.
type content struct {
	s    *Reader
	rest []byte
	err  error // io.EOF at the end of the part
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	for len(c.rest) == 0 && c.err == nil {
		var kind byte
		kind, c.rest, c.err = c.s.frame()
		switch {
		case c.err != nil:
		case kind == frameEnd:
			c.rest, c.err = nil, io.EOF
		case kind != frameData:
			c.rest, c.err = nil, errBroken
		}
	}
	if len(c.rest) == 0 {
		return 0, c.err
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}
