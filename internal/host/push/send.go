package push

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/klauspost/compress/zstd"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/chunk"
	"github.com/sovereign-sql/sov/internal/contract/pushapi"
	"github.com/sovereign-sql/sov/internal/host/device"
)

// A Phase is a part of a push.
type Phase string

// Phases, in their order.
const (
	Comparing Phase = "compare" // the phone sends the list of its chunks
	Sending   Phase = "send"    // Done and Total count content, before it is compressed
	Verifying Phase = "verify"  // the phone reads back and checks what it has written
)

// Progress is the progress of a push.
type Progress struct {
	Phase       Phase
	Done, Total int64 // bytes
	Sent        int64 // bytes sent by this computer
}

// A Result describes a finished push.
type Result struct {
	Slot      string  `json:"slot"`
	Unchanged bool    `json:"unchanged"` // this was already the phone's current version
	Size      int64   `json:"size"`      // bytes of the version's files
	Content   int64   `json:"content"`   // bytes of them that the phone did not have
	Resumed   int64   `json:"resumed"`   // bytes that an interrupted push had sent
	Sent      int64   `json:"sent"`      // bytes sent, compressed, including the protocol
	Received  int64   `json:"received"`  // bytes received from the phone
	Seconds   float64 `json:"seconds"`
	PhoneCPU  float64 `json:"phone_cpu"` // processor time on the phone, in seconds
}

const (
	// silence is the idle timeout of the connection: a phone sends nothing while it syncs to slow
	// storage.
	silence = 2 * time.Minute
	// window is the compressor's window, in bytes: the maximum of the phone's side (package
	// receive), which limits its memory.
	window = 4 << 20
	// maxBases and maxChunks bound the phone's lists of chunks.
	maxBases  = 64
	maxChunks = 1 << 26
)

// Send installs a version on a phone, whose runner must be compatible with this program, see
// EnsureRunner. report is called from several goroutines, but not concurrently.
func Send(ctx context.Context, p device.Phone, a *Artifact, report func(Progress)) (*Result, error) {
	r, err := send(ctx, p, a, false, report)
	refusal := &pushapi.Refusal{}
	if errors.As(err, &refusal) && refusal.Code == pushapi.CodeDigest {
		// The phone's lists of chunks are wrong: make it read all files again.
		r, err = send(ctx, p, a, true, report)
	}
	return r, err
}

// send is one session of the protocol.
func send(ctx context.Context, p device.Phone, a *Artifact, fresh bool, report func(Progress)) (*Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	toPhone, stdin := io.Pipe()
	stdout, fromPhone := io.Pipe()
	s := &session{Artifact: a, fresh: fresh, report: report, begun: time.Now()}
	s.conn = pushapi.NewConn(bufio.NewReaderSize(&counted{r: stdout, n: &s.received}, 64<<10), &counted{w: stdin, n: &s.sent})
	ran := make(chan error, 1)
	go func() {
		err := p.Run(ctx, device.Command{
			Args:  []string{p.Root().Runner(), "receive", a.Manifest.Name, "--root", string(p.Root())},
			Stdin: toPhone, Stdout: fromPhone, Live: true, Limit: device.NoLimit, Idle: silence,
		})
		// Close the pipe, so that the other side does not block.
		why := err
		if why == nil {
			why = io.ErrUnexpectedEOF
		}
		fromPhone.CloseWithError(why)
		toPhone.CloseWithError(why)
		ran <- err
	}()
	result, err := s.converse(ctx)
	if err != nil && !errors.As(err, new(*pushapi.Refusal)) {
		cancel()
	}
	stdin.Close()
	stdout.Close()
	runErr := <-ran
	if err == nil {
		return result, nil
	}
	refusal := &pushapi.Refusal{}
	if errors.As(err, &refusal) {
		refusal.Text = printable(refusal.Text)
		return nil, fmt.Errorf("%s: %w", p.Name(), refusal)
	}
	// The transport knows better why the session broke.
	if lost := new(device.LostError); errors.As(runErr, &lost) {
		return nil, fmt.Errorf("%w. The received data is kept: push again to resume", runErr)
	}
	if runErr != nil && !errors.Is(runErr, context.Canceled) {
		return nil, runErr
	}
	return nil, fmt.Errorf("%s: %w", p.Name(), err)
}

// printable removes control characters from a text of the phone.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// counted counts bytes.
type counted struct {
	r io.Reader
	w io.Writer
	n *atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// A session is one run of the protocol with a phone.
type session struct {
	*Artifact
	fresh          bool
	conn           *pushapi.Conn
	report         func(Progress)
	begun          time.Time
	sent, received atomic.Int64
}

func (s *session) converse(ctx context.Context) (*Result, error) {
	s.report(Progress{Phase: Comparing})
	if err := s.greet(); err != nil {
		return nil, err
	}
	bases, done, err := s.bases()
	if err != nil {
		return nil, err
	}
	if done != nil {
		return s.result(done, &plan{}), nil
	}
	p := newPlan(s.Artifact, bases)
	// Read the phone's messages while sending: it would block otherwise.
	type answer struct {
		done *pushapi.Done
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		done, err := s.answer()
		answered <- answer{done, err}
	}()
	patience := ctx.Done()
	sending := s.stream(ctx, p)
	if errors.As(sending, new(sourceError)) {
		return nil, sending
	}
	if sending != nil { // the phone may have sent the reason
		moment, cancel := context.WithTimeout(ctx, lastWords)
		defer cancel()
		patience = moment.Done()
	}
	select {
	case got := <-answered:
		if got.err != nil {
			return nil, got.err
		}
		if sending == nil {
			return s.result(got.done, p), nil
		}
	case <-patience:
	}
	return nil, errors.Join(sending, ctx.Err())
}

// lastWords is how long to wait for the reason from a phone that stopped reading.
const lastWords = 5 * time.Second

func (s *session) result(d *pushapi.Done, p *plan) *Result {
	return &Result{Slot: d.Slot, Unchanged: d.Unchanged, Size: s.Size(), Content: p.data, Resumed: p.kept,
		Sent: s.sent.Load(), Received: s.received.Load(), PhoneCPU: d.CPU, Seconds: time.Since(s.begun).Seconds()}
}

// greet exchanges greetings and offers the version.
func (s *session) greet() error {
	if err := s.conn.Accept(); err != nil {
		return err
	}
	var hello pushapi.Hello
	if err := s.conn.Receive(pushapi.KindHello, &hello); err != nil {
		return err
	}
	for _, v := range []struct {
		what       string
		phone, own int
	}{
		{"the protocol", hello.Protocol, pushapi.Version}, {"the way of cutting", hello.Chunks, chunk.Version},
		{artifact.ManifestFile, hello.Manifest, manifest.Format}, {artifact.SpecFile, hello.Spec, vmspec.Format},
	} {
		if v.phone != v.own {
			return fmt.Errorf("the phone's sov-runner (%.40q) and this sov are incompatible: %s has version %d there and %d here: push with the newest sov, which also installs its runner",
				hello.Runner, v.what, v.phone, v.own)
		}
	}
	if hello.Arch != s.Manifest.Arch {
		return fmt.Errorf("the machine is for %s, the phone runs %.20q: build and push it with --arch", s.Manifest.Arch, hello.Arch)
	}
	if err := s.conn.Open(); err != nil {
		return err
	}
	offer := pushapi.Offer{Manifest: s.Texts[0], Spec: s.Texts[1], Data: s.data, Fresh: s.fresh, AllowDowngrade: s.AllowDowngrade}
	if s.Signed != nil {
		offer.Signed = s.Signed.File
	}
	return s.conn.SendOffer(offer)
}

// bases reads the phone's lists of chunks, or its answer that it has the version already.
func (s *session) bases() ([]base, *pushapi.Done, error) {
	var out []base
	var list bytes.Buffer
	chunks := 0
	finish := func() error { // the last base
		if len(out) == 0 {
			return nil
		}
		b := &out[len(out)-1]
		var err error
		b.chunks, err = chunk.ReadList(&list, b.Size)
		if err == nil && list.Len() > 0 {
			err = errors.New("a list of chunks that is too long")
		}
		if chunks += len(b.chunks); chunks > maxChunks {
			err = errors.New("the phone lists more than it can have")
		}
		list.Reset()
		return err
	}
	for {
		kind, payload, err := s.conn.ReadFrame()
		if err != nil {
			return nil, nil, err
		}
		switch kind {
		case pushapi.KindBase:
			if err := finish(); err != nil {
				return nil, nil, err
			}
			var b pushapi.Base
			if err := pushapi.Decode(payload, &b); err != nil {
				return nil, nil, err
			}
			if out = append(out, base{Base: b}); len(out) > maxBases {
				return nil, nil, errors.New("the phone lists more files than it can have")
			}
		case pushapi.KindList:
			if list.Len()+len(payload) > maxChunks {
				return nil, nil, errors.New("a list of chunks that is too long")
			}
			list.Write(payload)
		case pushapi.KindBases:
			return out, nil, finish()
		case pushapi.KindProgress:
			if err := s.progress(payload, Comparing); err != nil {
				return nil, nil, err
			}
		case pushapi.KindDone:
			d := &pushapi.Done{}
			return nil, d, pushapi.Decode(payload, d)
		default:
			return nil, nil, pushapi.Unexpected(kind, payload)
		}
	}
}

// progress reports the bytes that the phone has verified.
func (s *session) progress(payload []byte, p Phase) error {
	var now pushapi.Progress
	if err := pushapi.Decode(payload, &now); err != nil {
		return err
	}
	if now.Verified > 0 {
		s.report(Progress{Phase: p, Done: now.Verified, Total: s.Size(), Sent: s.sent.Load()})
	}
	return nil
}

// stream sends the plan, compressed.
func (s *session) stream(ctx context.Context, p *plan) error {
	w, err := zstd.NewWriter(s.conn.Writer(pushapi.KindData), zstd.WithWindowSize(window), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return err
	}
	now := Progress{Phase: Sending, Total: p.data}
	s.report(now)
	err = p.write(ctx, w, s.files, func(n int64) {
		now.Done += n
		now.Sent = s.sent.Load()
		s.report(now)
	})
	if err != nil {
		w.Reset(nil) // discard what is buffered
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return s.conn.WriteFrame(pushapi.KindEnd, nil)
}

// answer reads the phone's messages until the end of the session.
func (s *session) answer() (*pushapi.Done, error) {
	for {
		kind, payload, err := s.conn.ReadFrame()
		if err != nil {
			return nil, err
		}
		switch kind {
		case pushapi.KindProgress:
			if err := s.progress(payload, Verifying); err != nil {
				return nil, err
			}
		case pushapi.KindDone:
			d := &pushapi.Done{}
			return d, pushapi.Decode(payload, d)
		default:
			return nil, pushapi.Unexpected(kind, payload)
		}
	}
}
