package push

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/pushapi"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/phone/receive"
	"github.com/sovereign-sql/sov/internal/phone/slots"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
	"github.com/sovereign-sql/sov/internal/testkit/repeat"
)

// A handset is a phone in this process: package receive with a folder, and a connection that breaks
// after some bytes.
type handset struct {
	t       testing.TB
	root    phonepath.Root
	vm      phonepath.VM
	running string
	cut     int64 // bytes to the phone after which the connection breaks; 0: never
	prelude string
}

func newHandset(t testing.TB) *handset {
	t.Helper()
	h := &handset{t: t, root: phonepath.Root(t.TempDir())}
	var err error
	if h.vm, err = h.root.VM("sql"); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *handset) Name() string         { return "handset" }
func (h *handset) Root() phonepath.Root { return h.root }

func (h *handset) Run(ctx context.Context, c device.Command) error {
	r := &receive.Receiver{VM: h.vm, Arch: "arm64", Version: "test", Running: func() string { return h.running }}
	if h.prelude != "" {
		_, err := io.WriteString(c.Stdout, h.prelude)
		return err
	}
	in := c.Stdin
	if h.cut > 0 {
		in = io.LimitReader(in, h.cut)
	}
	err := r.Serve(ctx, in, c.Stdout)
	if h.cut > 0 && err != nil {
		err = &device.LostError{Phone: h.Name(), Reason: "cut"}
	}
	return err
}

func open(t testing.TB, dir string) *Artifact {
	t.Helper()
	a, err := Open(t.Context(), dir, func(int64, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (h *handset) push(a *Artifact) *Result {
	h.t.Helper()
	r, err := Send(h.t.Context(), h, a, func(Progress) {})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// current returns the digest of the current version. It fails the test if a file of the version is
// damaged.
func (h *handset) current() string {
	h.t.Helper()
	slot, err := slots.Current(h.vm)
	if err != nil {
		h.t.Fatal(err)
	}
	a, err := installed.Load(h.vm.Slot(slot))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, want := range a.Files {
		content, err := os.ReadFile(filepath.Join(h.vm.Slot(slot), want.Name))
		if err != nil || manifest.Describe(want.Name, content) != want {
			h.t.Fatalf("slot %s: %s is not whole: %v", slot, want.Name, err)
		}
	}
	return a.Digest
}

// good marks the current version as one that has been ready.
func (h *handset) good() {
	h.t.Helper()
	_, trial, _, err := slots.Try(h.vm)
	if err == nil {
		err = trial.Passed()
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// image returns data like a file system's image: files, holes, metadata.
func image(seed uint64) []byte {
	var b []byte
	for i := range uint64(8) {
		b = append(b, artifacttest.Noise(int(40_000+(seed*7+i*7919)%60_000), 100+i)...)
		b = append(b, make([]byte, 4096*int(1+i%9)-len(b)%4096)...)
	}
	return b
}

// changed returns a copy of an image in which a setting changed: a block in the middle and one near
// the beginning.
func changed(b []byte) []byte {
	b = bytes.Clone(b)
	copy(b[1024:], "another time")
	copy(b[len(b)/2:], "another setting")
	return b
}

func TestPush(t *testing.T) {
	kernel := artifacttest.Noise(300_000, 1)
	one := open(t, artifacttest.Make(t, "sql", "1", kernel, image(1)))
	two := open(t, artifacttest.Make(t, "sql", "2", kernel, changed(image(1))))
	h := newHandset(t)

	first := h.push(one)
	if first.Slot != "a" || first.Unchanged || h.current() != one.Digest || first.Content < 500_000 {
		t.Errorf("the first: %+v", first)
	}
	if r := h.push(one); !r.Unchanged || r.Slot != "a" || r.Sent > 3000 || r.Content != 0 {
		t.Errorf("the same again: %+v", r)
	}
	h.good()
	r := h.push(two)
	t.Logf("one setting: %+v", r)
	if r.Slot != "b" || h.current() != two.Digest || r.Content > 5*8192 || r.Sent > 1.5*5*8192 {
		t.Errorf("one setting changed: %+v", r)
	}
	// Version 2 has not been ready, and version 1 has: version 3 replaces 2.
	three := open(t, artifacttest.Make(t, "sql", "3", kernel, image(3)))
	if r := h.push(three); r.Slot != "b" || h.current() != three.Digest {
		t.Errorf("over one that was not tried: %+v", r)
	}
	h.running = "b"
	four := open(t, artifacttest.Make(t, "sql", "4", kernel, image(4)))
	if _, err := Send(t.Context(), h, four, func(Progress) {}); err == nil || !strings.Contains(err.Error(), "being tried") || h.current() != three.Digest {
		t.Errorf("over one that is being tried: %v", err)
	}
	h.good()
	if r := h.push(four); r.Slot != "a" || h.current() != four.Digest {
		t.Errorf("once it was ready: %+v", r)
	}
	if back, err := slots.RollBack(h.vm); err != nil || back.Slot != "b" || h.current() != three.Digest {
		t.Errorf("roll back: %+v, %v", back, err)
	}
	info, err := os.Stat(filepath.Join(h.vm.Slot("a"), "rootfs.img"))
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("rootfs.img: %v, %v", info, err)
	}
}

// TestCut cuts the connection at random points. The current version is the old or the new one,
// undamaged, and the next push completes.
func TestCut(t *testing.T) {
	h := newHandset(t)
	kernel := artifacttest.Noise(50_000, 1)
	random := rand.New(rand.NewPCG(repeat.Seed(t), 1))
	cuts := repeat.Times(t, 30, 500) // of cut connections
	current := open(t, artifacttest.Make(t, "sql", "0", kernel, image(0)))
	h.push(current)
	h.good()
	resumed := 0
	for i := range cuts {
		next := open(t, artifacttest.Make(t, "sql", "next", artifacttest.Noise(60_000, uint64(i)), append(image(uint64(i)), artifacttest.Noise(400_000, uint64(i))...)))
		h.cut = 1 + random.Int64N(560_000)
		_, err := Send(t.Context(), h, next, func(Progress) {})
		now := h.current()
		if err == nil && now != next.Digest || err != nil && now != current.Digest && now != next.Digest {
			t.Fatalf("cut after %d bytes: %v; current is %s", h.cut, err, now)
		}
		h.cut = 0
		if random.IntN(3) > 0 { // otherwise another version is pushed
			r := h.push(next)
			if h.current() != next.Digest {
				t.Fatalf("the push after the cut: %+v", r)
			}
			if r.Resumed > 0 {
				resumed++
			}
			h.good()
			current = next
		} else if now == next.Digest {
			h.good()
			current = next
		}
	}
	t.Logf("%d of %d pushes went on from an earlier one", resumed, cuts)
	if resumed < cuts/10 {
		t.Errorf("only %d pushes went on from an earlier one", resumed)
	}
}

// TestDamagedBase: a base file that does not match its notes is detected and read again.
func TestDamagedBase(t *testing.T) {
	h := newHandset(t)
	kernel := artifacttest.Noise(50_000, 1)
	h.push(open(t, artifacttest.Make(t, "sql", "1", kernel, image(1))))
	h.good()
	path := filepath.Join(h.vm.Slot("a"), "rootfs.img")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), 300_000); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil { // damaged storage does not change the time
		t.Fatal(err)
	}
	two := open(t, artifacttest.Make(t, "sql", "2", kernel, changed(image(1))))
	if r := h.push(two); r.Slot != "b" || h.current() != two.Digest {
		t.Errorf("%+v", r)
	}
}

// TestRepair: pushing a damaged current version again installs it in the other slot.
func TestRepair(t *testing.T) {
	h := newHandset(t)
	one := open(t, artifacttest.Make(t, "sql", "1", artifacttest.Noise(50_000, 1), image(1)))
	h.push(one)
	h.good()
	if err := os.WriteFile(filepath.Join(h.vm.Slot("a"), "kernel"), artifacttest.Noise(50_000, 2), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := h.push(one); r.Unchanged || r.Slot != "b" || h.current() != one.Digest {
		t.Errorf("%+v", r)
	}
}

func TestRefusals(t *testing.T) {
	h := newHandset(t)
	kernel := artifacttest.Noise(50_000, 1)
	h.push(open(t, artifacttest.Make(t, "sql", "1", kernel, image(1))))
	h.good()
	before := h.current()
	other := open(t, artifacttest.Make(t, "sql", "2", kernel, image(2)))

	h.prelude = "/system/bin/sh: /data/sovereign/bin/sov-runner: not found\n"
	if _, err := Send(t.Context(), h, other, func(Progress) {}); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("a shell in place of the runner: %v", err)
	}
	var said strings.Builder
	c := pushapi.NewConn(nil, &said)
	if err := errors.Join(c.Open(), c.Send(pushapi.KindRefusal, pushapi.Refusal{Code: pushapi.CodeFailed, Text: "no\x1b[2J"})); err != nil {
		t.Fatal(err)
	}
	h.prelude = said.String()
	if _, err := Send(t.Context(), h, other, func(Progress) {}); err == nil || err.Error() != "handset: no?[2J" {
		t.Errorf("a refusal that clears the screen: %v", err)
	}
	h.prelude = ""
	wrong := open(t, artifacttest.Make(t, "web", "2", kernel, image(2)))
	if _, err := Send(t.Context(), h, wrong, func(Progress) {}); err == nil || !strings.Contains(err.Error(), "the machine web") {
		t.Errorf("another machine: %v", err)
	}
	// The file changes while it is sent.
	if err := os.WriteFile(other.files[1].path, image(7)[:other.files[1].Size/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Send(t.Context(), h, other, func(Progress) {}); err == nil || !strings.Contains(err.Error(), "changed while") {
		t.Errorf("a file that shrinks: %v", err)
	}
	if _, err := Open(t.Context(), filepath.Dir(other.files[1].path), func(int64, int64) {}); err == nil {
		t.Error("a damaged artifact was opened")
	}
	ctx, cancel := context.WithCancel(t.Context())
	third := open(t, artifacttest.Make(t, "sql", "3", kernel, image(3)))
	_, err := Send(ctx, h, third, func(p Progress) {
		if p.Phase == Sending && p.Done > 0 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if h.current() != before {
		t.Error("a refused push changed what is current")
	}
	if _, err := os.Stat(h.vm.Data()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data disk: %v", err)
	}
}

// FuzzConversation: any data from a phone leads to an error at most.
func FuzzConversation(f *testing.F) {
	h := newHandset(f)
	a := open(f, artifacttest.Make(f, "sql", "1", artifacttest.Noise(20_000, 1), artifacttest.Noise(100_000, 2)))
	var said bytes.Buffer
	r := &receive.Receiver{VM: h.vm, Arch: "arm64", Version: "test"}
	pr, pw := io.Pipe()
	var serving sync.WaitGroup
	serving.Go(func() { r.Serve(f.Context(), pr, &said); pr.Close() })
	s := &session{Artifact: a, report: func(Progress) {}}
	s.conn = pushapi.NewConn(bytes.NewReader(nil), pw)
	s.conn.Open()
	s.conn.SendOffer(pushapi.Offer{Manifest: a.Texts[0], Spec: a.Texts[1], Data: a.data})
	pw.Close()
	serving.Wait()
	f.Add(said.Bytes())
	f.Add([]byte(pushapi.Magic + "h\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		defer costtest.Text.Watch(t, len(b))()
		s := &session{Artifact: a, report: func(Progress) {}}
		s.conn = pushapi.NewConn(bytes.NewReader(b), io.Discard)
		if _, err := s.converse(t.Context()); err == nil && !bytes.Contains(b, []byte("D")) {
			t.Error("a push without an answer has succeeded")
		}
	})
}
