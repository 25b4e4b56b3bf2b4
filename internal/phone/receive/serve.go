package receive

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/chunk"
	"github.com/sovereign-sql/sov/internal/contract/pushapi"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/phone/slots"
)

const (
	// silence is how long the computer may send nothing before the transfer ends, for example after
	// a suspend or an unnoticed disconnect.
	silence = time.Minute
	// maxWindow limits the memory of the decompressor, in bytes; push needs less.
	maxWindow = 8 << 20
	// reportEvery is the interval of progress messages to the computer.
	reportEvery = 200 * time.Millisecond
)

// errSilence ends a transfer in which the computer sends nothing.
var errSilence = errors.New("the computer has sent nothing for a minute")

// Serve receives a version from a computer that reads out and writes in. A refusal is also sent to
// the computer.
func (r *Receiver) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	heard := &heard{r: in, alarm: time.AfterFunc(silence, func() { cancel(errSilence) })}
	defer heard.alarm.Stop()
	ended := make(chan error, 1)
	// A read from a pipe cannot be interrupted, so the goroutine is abandoned when Serve returns
	// early.
	go func() { ended <- r.converse(ctx, pushapi.NewConn(heard, out)) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// heard resets the alarm at each read.
type heard struct {
	r     io.Reader
	alarm *time.Timer
}

func (h *heard) Read(b []byte) (int, error) {
	h.alarm.Reset(silence)
	n, err := h.r.Read(b)
	h.alarm.Stop() // from now on the computer waits for the phone
	return n, err
}

func (r *Receiver) converse(ctx context.Context, c *pushapi.Conn) error {
	done, err := r.receive(ctx, c)
	if err == nil {
		done.CPU = processorTime()
		return c.Send(pushapi.KindDone, done)
	}
	refusal := &pushapi.Refusal{}
	if !errors.As(err, &refusal) {
		refusal = &pushapi.Refusal{Code: pushapi.CodeFailed, Text: err.Error()}
	}
	return errors.Join(err, c.Send(pushapi.KindRefusal, refusal))
}

// processorTime returns this process's CPU time in seconds.
func processorTime() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func (r *Receiver) receive(ctx context.Context, c *pushapi.Conn) (*pushapi.Done, error) {
	if err := c.Open(); err != nil {
		return nil, err
	}
	lock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	free, err := room(r.VM.Slots())
	if err != nil {
		return nil, err
	}
	hello := pushapi.Hello{Protocol: pushapi.Version, Chunks: chunk.Version, Manifest: manifest.Format, Spec: vmspec.Format,
		Runner: r.Version, Arch: r.Arch, Free: free, Slots: slots.List(r.VM)}
	if err := c.Send(pushapi.KindHello, hello); err != nil {
		return nil, err
	}
	if err := c.Accept(); err != nil {
		return nil, err
	}
	kind, payload, err := c.ReadFrame()
	if err != nil {
		return nil, fmt.Errorf("no offer has come: %w", err)
	}
	if kind != pushapi.KindOffer {
		return nil, pushapi.Unexpected(kind, payload)
	}
	offer, err := pushapi.DecodeOffer(payload)
	if err != nil {
		return nil, err
	}
	a, err := r.parse(offer.Manifest, offer.Spec)
	if err != nil {
		return nil, err
	}
	last := time.Now()
	report := func(p pushapi.Progress) {
		if now := time.Now(); now.Sub(last) >= reportEvery {
			last = now
			c.Send(pushapi.KindProgress, p) // a broken pipe is reported by the next important message
		}
	}
	v := version{a, offer.Signed, offer.AllowDowngrade}
	if slot, ok, err := r.installed(ctx, v, report); ok || err != nil {
		return &pushapi.Done{Slot: slot, Unchanged: true}, err
	}
	s, err := begin(r, v, offer.Data, report)
	if err != nil {
		return nil, err
	}
	bases, err := s.sendBases(c, offer.Fresh)
	defer func() {
		for _, b := range bases {
			b.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	if err := s.build(ctx, c, bases); err != nil {
		return nil, explainWrite(err)
	}
	if err := s.finish(ctx); err != nil {
		forgetNotes(bases, err)
		return nil, err
	}
	return &pushapi.Done{Slot: s.target}, nil
}

// installed reports whether the current slot already has the version, byte for byte, and adds a new
// signature. It returns an error if the phone does not accept the version.
func (r *Receiver) installed(ctx context.Context, v version, report func(pushapi.Progress)) (string, bool, error) {
	_, refused := v.admit(r.VM)
	slot, err := slots.Current(r.VM)
	if err != nil {
		return "", false, refused
	}
	now := slots.Look(r.VM, slot)
	if now.Digest != v.Digest || now.State == runnerapi.SlotBad {
		return "", false, refused
	}
	var p pushapi.Progress
	if !isWhole(ctx, r.VM.Slot(slot), v.Artifact, func(n int64) { p.Verified += n; report(p) }) {
		return "", false, refused
	}
	if refused == nil {
		err = v.keepSignature(r.VM, r.VM.Slot(slot))
	}
	return slot, true, err
}

// sendBases sends the computer the files from which data can be copied: those of both slots, each
// content once, and those of an interrupted transfer.
func (s *assembly) sendBases(c *pushapi.Conn, fresh bool) ([]*os.File, error) {
	var bases []*os.File
	send := func(path string, part int, keep bool) error {
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		bases = append(bases, f)
		l, err := listOf(f, fresh, keep)
		if err != nil {
			return err
		}
		if err := c.Send(pushapi.KindBase, pushapi.Base{Name: path, Size: l.Size(), Part: part}); err != nil {
			return err
		}
		_, err = c.Writer(pushapi.KindList).Write(l.Append(nil))
		return err
	}
	seen := map[string]bool{}
	for _, slot := range slots.Names {
		a, err := installed.Load(s.vm.Slot(slot))
		if err != nil {
			continue // empty or broken: its content is unknown
		}
		for _, f := range installed.Streamed(a) {
			if seen[f.SHA256] {
				continue
			}
			seen[f.SHA256] = true
			if err := send(filepath.Join(s.vm.Slot(slot), f.Name), 0, true); err != nil {
				return bases, err
			}
		}
	}
	for i, f := range s.files {
		if err := send(s.path(f.Name), i+1, false); err != nil {
			return bases, err
		}
	}
	return bases, c.WriteFrame(pushapi.KindBases, nil)
}

// build follows the computer's instructions.
func (s *assembly) build(ctx context.Context, c *pushapi.Conn, bases []*os.File) error {
	frames := c.Reader(pushapi.KindData, pushapi.KindEnd)
	decoder, err := zstd.NewReader(frames, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer decoder.Close()
	instructions := bufio.NewReaderSize(decoder, 64<<10)
	for _, f := range s.files {
		if err := s.buildFile(ctx, instructions, f, bases); err != nil {
			return fmt.Errorf("receive %s: %w", f.Name, err)
		}
	}
	if _, err := instructions.ReadByte(); err != io.EOF {
		return fmt.Errorf("the end of what the computer sends was expected: %w", err)
	}
	// The decompressor need not have read the last frame.
	if n, err := io.Copy(io.Discard, frames); n != 0 || err != nil {
		return fmt.Errorf("%d bytes behind the end of what the computer sends: %w", n, err)
	}
	return nil
}

func (s *assembly) buildFile(ctx context.Context, r *bufio.Reader, want manifest.File, bases []*os.File) (err error) {
	var w *writer
	defer func() {
		if w != nil {
			w.abandon()
		}
	}()
	for left := want.Size; left > 0; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		i, err := pushapi.ReadInstruction(r, left)
		if err != nil {
			return err
		}
		if i.Op == pushapi.Keep && w != nil {
			return errors.New("what there is of it already can only be its beginning")
		}
		if w == nil {
			keep := int64(0)
			if i.Op == pushapi.Keep {
				keep = i.Length
			}
			if w, err = newWriter(s.path(want.Name), keep); err != nil {
				return err
			}
		}
		if err := follow(i, r, w, bases); err != nil {
			return err
		}
		left -= i.Length
		s.note(i.Length)
	}
	if w == nil { // an empty file
		if w, err = newWriter(s.path(want.Name), 0); err != nil {
			return err
		}
	}
	err = w.finish()
	w = nil
	return err
}

// follow executes an instruction.
func follow(i pushapi.Instruction, r io.Reader, w *writer, bases []*os.File) error {
	switch i.Op {
	case pushapi.Keep:
		return nil
	case pushapi.Zero:
		return w.hole(i.Length)
	case pushapi.Data:
		_, err := io.CopyN(w, r, i.Length)
		return err
	case pushapi.Copy:
		if i.Base >= len(bases) {
			return fmt.Errorf("there is no base %d", i.Base)
		}
		_, err := io.CopyN(w, io.NewSectionReader(bases[i.Base], i.Offset, i.Length), i.Length)
		return err
	}
	return fmt.Errorf("an instruction of kind %q is not known", byte(i.Op))
}

// forgetNotes removes the notes of files from which wrong data was copied, so that the next push
// reads the files.
func forgetNotes(bases []*os.File, err error) {
	var refusal *pushapi.Refusal
	if !errors.As(err, &refusal) || refusal.Code != pushapi.CodeDigest {
		return
	}
	for _, b := range bases {
		os.Remove(notePath(b.Name()))
	}
}
