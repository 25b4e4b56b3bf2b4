package kconfig

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sovereign-sql/sov/internal/arch"
)

// maxImage is the largest image, compressed or not, in bytes. A distribution's kernel has about 60
// MB.
const maxImage = 256 << 20

// ErrNoConfig says that a kernel was built without CONFIG_IKCONFIG.
var ErrNoConfig = errors.New("the kernel carries no configuration: it was built without CONFIG_IKCONFIG")

// ErrNotKernel says that a file is not a supported kernel image.
var ErrNotKernel = errors.New("not a kernel image: neither an arm64 Image nor an x86 bzImage")

// An Image is a kernel that a boot loader can start.
type Image struct {
	// Arch is "arm64" or "amd64".
	Arch string
	// Wrapper is the compression of the whole file ("gzip", "lz4", ...), or empty.
	Wrapper string
	// Bytes is the image itself: a raw arm64 Image or a bzImage.
	Bytes []byte

	kernel []byte // the uncompressed kernel inside Bytes
}

// OpenFile reads a kernel image from a file.
func OpenFile(name string) (*Image, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open kernel image: %w", err)
	}
	defer f.Close()
	b, err := readLimited(f, maxImage)
	if err != nil {
		return nil, fmt.Errorf("read kernel image %s: %w", name, err)
	}
	img, err := Open(b)
	if err != nil {
		return nil, fmt.Errorf("kernel image %s: %w", name, err)
	}
	return img, nil
}

// Open detects the kind of image in b and decompresses it as far as necessary. The Image may keep
// b.
func Open(b []byte) (*Image, error) { return open(b, maxImage) }

func open(b []byte, limit int) (*Image, error) {
	wrapper := compression(b)
	if wrapper != "" {
		var err error
		if b, err = decompress(wrapper, b, limit); err != nil {
			return nil, err
		}
	}
	img := &Image{Wrapper: wrapper, Bytes: b}
	switch {
	case isARM64(b):
		img.Arch, img.kernel = arch.ARM64, b
		return img, nil
	case isBzImage(b):
		img.Arch = arch.AMD64
		var err error
		img.kernel, err = bzImagePayload(b, limit)
		return img, err
	case len(b) >= 8 && string(b[4:8]) == "zimg":
		return nil, fmt.Errorf("%w (it is an EFI zboot image; unpack it to a raw Image first)", ErrNotKernel)
	}
	return nil, ErrNotKernel
}

// isARM64 looks for the magic of Documentation/arm64/booting.rst.
func isARM64(b []byte) bool {
	return len(b) >= 64 && string(b[56:60]) == "ARM\x64"
}

// Offsets and flags of Documentation/x86/boot.rst, from the start of the file.
const (
	setupSectsOffset    = 0x1f1
	bootFlagOffset      = 0x1fe
	setupMagicOffset    = 0x202
	setupVersionOffset  = 0x206
	xloadflagsOffset    = 0x236
	payloadOffsetOffset = 0x248
	payloadLengthOffset = 0x24c
	setupHeaderEnd      = 0x250

	bootFlag           = 0xaa55
	payloadSince       = 0x0208 // first boot protocol with payload_offset
	loadflagKernel64   = 1 << 0
	defaultSetupSects  = 4
	setupSector        = 512
	appendedSizeLength = 4
)

func isBzImage(b []byte) bool {
	return len(b) >= setupHeaderEnd &&
		binary.LittleEndian.Uint16(b[bootFlagOffset:]) == bootFlag &&
		string(b[setupMagicOffset:setupMagicOffset+4]) == "HdrS"
}

// bzImagePayload uncompresses the kernel inside a bzImage.
func bzImagePayload(b []byte, limit int) ([]byte, error) {
	le := binary.LittleEndian
	if v := le.Uint16(b[setupVersionOffset:]); v < payloadSince {
		return nil, fmt.Errorf("bzImage of boot protocol %d.%02d: older than 2.08, the first that records where the kernel is", v>>8, v&0xff)
	}
	if le.Uint16(b[xloadflagsOffset:])&loadflagKernel64 == 0 {
		return nil, errors.New("bzImage of a 32-bit kernel: the guest is 64-bit")
	}
	sects := int64(b[setupSectsOffset])
	if sects == 0 {
		sects = defaultSetupSects
	}
	start := (sects+1)*setupSector + int64(le.Uint32(b[payloadOffsetOffset:]))
	end := start + int64(le.Uint32(b[payloadLengthOffset:]))
	if end > int64(len(b)) {
		return nil, fmt.Errorf("bzImage is cut short: its kernel ends at byte %d of %d", end, len(b))
	}
	payload := b[start:end]
	format := compression(payload)
	if format == "" {
		return nil, errors.New("the kernel inside the bzImage is compressed in a way not known here (LZO?); build it with CONFIG_KERNEL_GZIP")
	}
	// The kernel's build appends the uncompressed size, except for gzip.
	if format != "gzip" {
		payload = payload[:max(0, len(payload)-appendedSizeLength)]
	}
	kernel, err := decompress(format, payload, limit)
	if err != nil {
		return nil, fmt.Errorf("kernel inside the bzImage: %w", err)
	}
	return kernel, nil
}

// Release returns the kernel's release as uname -r prints it ("6.1.192-sov"), or "" if the image
// does not contain it.
func (img *Image) Release() string {
	// linux_banner of init/version.c: "Linux version %s (user@host) ...". The
	// format string itself is there too, with a % in place of the release.
	const banner = "Linux version "
	rest := img.kernel
	for {
		i := bytes.Index(rest, []byte(banner))
		if i < 0 {
			return ""
		}
		rest = rest[i+len(banner):]
		if end := bytes.IndexByte(rest[:min(len(rest), 65)], ' '); end > 0 && rest[0] >= '0' && rest[0] <= '9' {
			return string(rest[:end])
		}
	}
}

// maxConfig is the largest text of a configuration, in bytes. A distribution's has 250 KB.
const maxConfig = 4 << 20

// maxConfigMarks is how many possible positions of the configuration are tried. A kernel has one;
// its code and data might contain the mark by chance.
const maxConfigMarks = 16

// Config returns the text of the configuration that the kernel was built with,
// or ErrNoConfig.
func (img *Image) Config() ([]byte, error) {
	// kernel/configs.c puts a gzip file between these marks.
	const begin, end = "IKCFG_ST", "IKCFG_ED"
	rest := img.kernel
	for range maxConfigMarks {
		i := bytes.Index(rest, []byte(begin+gzipMagic))
		if i < 0 {
			return nil, ErrNoConfig
		}
		rest = rest[i+len(begin):]
		n := bytes.Index(rest, []byte(end))
		if n < 0 {
			return nil, ErrNoConfig
		}
		text, err := decompress("gzip", rest[:n], maxConfig)
		if err == nil {
			return text, nil
		}
		if !bytes.Contains(rest, []byte(begin+gzipMagic)) {
			return nil, fmt.Errorf("the configuration inside the kernel is damaged: %w", err)
		}
	}
	return nil, fmt.Errorf("the configuration inside the kernel is damaged: the first %d places that look like one are not", maxConfigMarks)
}

// readLimited reads all of r, or returns an error if it has more than limit bytes.
func readLimited(r io.Reader, limit int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	return b, nil
}
