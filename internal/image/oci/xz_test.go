package oci

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/bound"
)

// xz compresses content with the xz program.
func xz(t testing.TB, content []byte, flags ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command("xz", append([]string{"--compress", "--stdout"}, flags...)...)
	cmd.Stdin, cmd.Stdout = bytes.NewReader(content), &out
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func unxz(packed []byte) ([]byte, error) {
	r, err := decompress(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestXZ(t *testing.T) {
	content := []byte(strings.Repeat("The text of a book compresses like this one.\n", 3000))
	for _, flags := range [][]string{{"-9e"}, {"--check=none"}, {"--check=crc32"}, {"--check=sha256", "--block-size=10KiB"}, {"--block-list=1000,2000", "-T2"}} {
		packed := xz(t, content, flags...)
		if got, err := unxz(packed); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%v: %d bytes, %v", flags, len(got), err)
		}
		two := bytes.Join([][]byte{packed, xz(t, content), nil}, make([]byte, 8))
		if got, err := unxz(two); err != nil || !bytes.Equal(got, bytes.Repeat(content, 2)) {
			t.Errorf("%v: two streams with padding: %d bytes, %v", flags, len(got), err)
		}
	}
	short := xz(t, content[:100], "--block-size=50")
	for cut := len(xzMagic); cut < len(short); cut++ {
		if _, err := unxz(short[:cut]); err == nil {
			t.Fatalf("cut off at %d of %d: no error", cut, len(short))
		}
	}
	spoiled := xz(t, content, "--check=crc64")
	spoiled[len(spoiled)-xzFooter-20] ^= 1
	if _, err := unxz(spoiled); err == nil {
		t.Error("a flipped bit of the check is not noticed")
	}
	if _, err := unxz(xz(t, content, "--x86", "--lzma2")); err == nil || !strings.Contains(err.Error(), "filter") {
		t.Errorf("another filter: %v", err)
	}
	if _, err := unxz(xz(t, make([]byte, 64<<20), "-0")); !errors.Is(err, bound.ErrTooLarge) {
		t.Errorf("64 MiB of zeros: %v", err)
	}
	if _, err := unxz(bytes.Repeat(xz(t, nil, "-T1", "-9e"), 3)); err != nil {
		t.Errorf("empty streams: %v", err)
	}
	if _, err := unxz(bytes.Repeat(xz(t, []byte("x"), "-T1", "-9e"), 1000)); !errors.Is(err, bound.ErrTooLarge) {
		t.Errorf("a thousand windows of 64 MiB: %v", err)
	}
	if _, err := unxz(wideXZ(xz(t, content))); !errors.Is(err, bound.ErrTooLarge) {
		t.Errorf("a window of 4 GiB: %v", err)
	}
}

// wideXZ sets the window of the first block to 4 GiB.
func wideXZ(packed []byte) []byte {
	header := packed[xzHeader : xzHeader+(int(packed[xzHeader])+1)*4]
	header[bytes.Index(header, []byte{0x21, 1})+2] = 40
	end := len(header) - 4
	binary.LittleEndian.PutUint32(header[end:], crc32.ChecksumIEEE(header[:end]))
	return packed
}
