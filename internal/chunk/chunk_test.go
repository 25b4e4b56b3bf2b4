package chunk

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// noise is n bytes that no chunker can foresee, the same for a seed.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func names(t testing.TB, b []byte) map[Name]int {
	t.Helper()
	l, err := ListOf(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out := map[Name]int{}
	for _, p := range l {
		out[p.Name] = p.Size
	}
	return out
}

// missing is how many bytes of b are in chunks that a has not.
func missing(t testing.TB, a, b []byte) (n int) {
	t.Helper()
	have := names(t, a)
	for name, size := range names(t, b) {
		if have[name] == 0 {
			n += size
		}
	}
	return n
}

// Chunks, put together, are the file, are named by their content and have the sizes that they may
// have.
func TestEach(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing": nil, "a byte": {7}, "less than Min": noise(Min-1, 1), "Min": noise(Min, 2), "Max": noise(Max, 3),
		"zeros": make([]byte, 3<<20+5), "noise": noise(3<<20+17, 4), "as the buffer": noise(buffered, 5),
		"zeros amid noise": append(append(noise(100_000, 6), make([]byte, 200_000)...), noise(100_000, 7)...),
	} {
		t.Run(name, func(t *testing.T) {
			var got []byte
			short := false
			err := Each(iotest.HalfReader(bytes.NewReader(b)), func(c Chunk, content []byte) error {
				if c.Offset != int64(len(got)) || c.Size != len(content) || c.Sum != sha256.Sum256(content) {
					t.Errorf("at %d: %+v", len(got), c)
				}
				if short || c.Size > Max || c.Size == 0 {
					t.Errorf("at %d: a chunk of %d bytes", c.Offset, c.Size)
				}
				if c.Zero != (len(bytes.Trim(content, "\x00")) == 0) {
					t.Errorf("at %d: zero is %v", c.Offset, c.Zero)
				}
				short = c.Size < Min
				got = append(got, content...)
				return nil
			})
			if err != nil || !bytes.Equal(got, b) {
				t.Errorf("%d bytes came back of %d: %v", len(got), len(b), err)
			}
		})
	}
}

// The first error ends it, from any goroutine.
func TestEachErrors(t *testing.T) {
	broken := errors.New("broken")
	if err := Each(io.MultiReader(bytes.NewReader(noise(100_000, 1)), iotest.ErrReader(broken)), func(Chunk, []byte) error { return nil }); err != broken {
		t.Errorf("a reader that fails: %v", err)
	}
	calls := 0
	err := Each(bytes.NewReader(noise(100_000, 1)), func(Chunk, []byte) error { calls++; return broken })
	if err != broken || calls != 1 {
		t.Errorf("a callback that fails: %v after %d calls", err, calls)
	}
}

// What a change costs: little, wherever the rest has moved to.
func TestChangesStayLocal(t *testing.T) {
	old := noise(4<<20, 1)
	at := 1_234_567
	for _, c := range []struct {
		name  string
		new   []byte
		limit int
	}{
		{"the same", old, 0},
		{"a byte changed", append(append(bytes.Clone(old[:at]), old[at]+1), old[at+1:]...), 3 * Max},
		{"a byte inserted", append(append(bytes.Clone(old[:at]), 'x'), old[at:]...), 3 * Max},
		{"a block inserted", append(append(bytes.Clone(old[:1<<20]), noise(4096, 2)...), old[1<<20:]...), 4096 + 3*Max},
		{"half moved", append(bytes.Clone(old[2<<20:]), old[:2<<20]...), 8 * Max},
		{"another file", noise(4<<20, 3), 4<<20 + 1},
	} {
		if n := missing(t, old, c.new); n > c.limit {
			t.Errorf("%s: %d bytes in new chunks, want at most %d", c.name, n, c.limit)
		}
	}
}

// The sizes are drawn to Normal.
func TestSizes(t *testing.T) {
	l, err := ListOf(bytes.NewReader(noise(16<<20, 9)))
	if err != nil {
		t.Fatal(err)
	}
	near := 0
	for _, p := range l {
		if p.Size >= Normal/2 && p.Size <= 2*Normal {
			near++
		}
	}
	average := int(l.Size()) / len(l)
	if average < Normal*3/4 || average > Normal*3/2 || near*10 < len(l)*8 {
		t.Errorf("%d chunks of %d bytes on average, %d of them within a factor of two of %d", len(l), average, near, Normal)
	}
}

// The way of cutting is the same for ever: what a phone has was cut by another program.
func TestVersionIsStable(t *testing.T) {
	l, err := ListOf(bytes.NewReader(append(noise(200_000, 42), make([]byte, 50_000)...)))
	if err != nil {
		t.Fatal(err)
	}
	const want = "48 chunks, 6468d3841a7b74fddff1f6f6ab025b86"
	if got := fmt.Sprintf("%d chunks, %x", len(l), Sum(sha256.Sum256(l.Append(nil))).Name()); Version != 1 || got != want {
		t.Errorf("%s, want %s: another way of cutting needs another Version", got, want)
	}
}

// A list that went through its encoding is the same.
func TestList(t *testing.T) {
	for _, b := range [][]byte{nil, {1}, make([]byte, 100_000), noise(300_000, 1)} {
		l, err := ListOf(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		text := l.Append(nil)
		got, err := ReadList(bytes.NewReader(text), int64(len(b)))
		if err != nil || len(got) != len(l) {
			t.Fatalf("%d chunks of %d: %v", len(got), len(l), err)
		}
		for i := range l {
			if !l[i].Equal(got[i]) {
				t.Errorf("chunk %d: %+v, want %+v", i, got[i], l[i])
			}
		}
		for n := range min(len(text), 40) {
			if _, err := ReadList(bytes.NewReader(text[:n]), int64(len(b))); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("cut at %d: %v", n, err)
			}
		}
	}
}

func TestReadListRefuses(t *testing.T) {
	for _, c := range []struct {
		text, says string
		size       int64
	}{
		{"\x00\x00", "a chunk of 0 bytes", 10},
		{"\x80\x0b", "a chunk of 11 bytes where 10", 10},
		{"\x80\x09", "a chunk of 9 bytes where 10", 10},
		{"\xff\xff", "a chunk of 32767 bytes", 1 << 40},
		{"", "cannot be a file's size", -1},
	} {
		if _, err := ReadList(strings.NewReader(c.text), c.size); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, want %q", c.text, err, c.says)
		}
	}
}

func FuzzEach(f *testing.F) {
	f.Add([]byte("a few bytes"))
	f.Add(make([]byte, 3*Max))
	f.Add(noise(5*Max, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		defer costtest.Text.Watch(t, len(b))()
		var got []byte
		if err := Each(bytes.NewReader(b), func(_ Chunk, content []byte) error { got = append(got, content...); return nil }); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, b) {
			t.Errorf("%d bytes came back of %d", len(got), len(b))
		}
	})
}

func FuzzReadList(f *testing.F) {
	l, _ := ListOf(bytes.NewReader(append(noise(50_000, 1), make([]byte, 50_000)...)))
	f.Add(l.Append(nil), int64(100_000))
	f.Add([]byte("\x80\x01"), int64(1))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		defer costtest.Text.Watch(t, len(b))()
		l, err := ReadList(bytes.NewReader(b), size)
		if err != nil {
			return
		}
		if l.Size() != size || !bytes.HasPrefix(b, l.Append(nil)) {
			t.Errorf("%d bytes in the list, want %d", l.Size(), size)
		}
	})
}

func BenchmarkEach(b *testing.B) {
	content := noise(32<<20, 1)
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"sha256", func() error { sha256.Sum256(content); return nil }},
		{"chunks", func() error { return Each(bytes.NewReader(content), func(Chunk, []byte) error { return nil }) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				if err := c.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
