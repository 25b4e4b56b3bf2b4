package remote

import (
	"bytes"
	"testing"
)

func TestSplit(t *testing.T) {
	for _, size := range []int{0, 1, minPiece, minPiece + 1, maxPiece, maxPiece + 1, 20<<20 + 3} {
		for name, content := range map[string][]byte{"random": random(7, size), "zeros": make([]byte, size)} {
			var got []byte
			pieces := 0
			err := split(bytes.NewReader(content), func(p []byte) error {
				if len(p) == 0 || len(p) > maxPiece {
					t.Errorf("%s, %d: a piece of %d bytes", name, size, len(p))
				}
				got = append(got, p...)
				pieces++
				return nil
			})
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s, %d: not the same, %v", name, size, err)
			}
			if name == "random" && size > 10<<20 && (pieces < 8 || pieces > 30) {
				t.Errorf("%d bytes are %d pieces", size, pieces)
			}
		}
	}
}

func TestPack(t *testing.T) {
	content := random(3, 100_000)
	p, stored := pack(content)
	other, otherStored := repack(content)
	if p.Digest == other.Digest {
		t.Error("packed again it has the same digest")
	}
	for _, tt := range []struct {
		piece  piece
		stored []byte
	}{{p, stored}, {other, otherStored}} {
		got, err := unpack(tt.piece, tt.stored)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("not the same, %v", err)
		}
		tt.piece.Length--
		if _, err := unpack(tt.piece, tt.stored); err == nil {
			t.Error("a wrong length is taken")
		}
	}
	if _, err := unpack(p, append(stored, 0)); err == nil {
		t.Error("a byte more is taken")
	}
	// A bomb: 64 MiB of zeros that claim to be one piece.
	p, stored = pack(make([]byte, 64<<20))
	p.Length = maxPiece
	if _, err := unpack(p, stored); err == nil {
		t.Error("more than a piece is unpacked")
	}
}

func BenchmarkSplit(b *testing.B) {
	content := random(1, 64<<20)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		split(bytes.NewReader(content), func([]byte) error { return nil })
	}
}
