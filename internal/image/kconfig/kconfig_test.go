package kconfig

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

const configText = `# Linux/arm64 6.1.192 Kernel Configuration
CONFIG_SYSVIPC=y
CONFIG_NR_CPUS=32
CONFIG_LOCALVERSION="-sov"
CONFIG_EXT4_FS=m
# CONFIG_MODULES is not set
`

// kernelBody returns an uncompressed kernel for the tests: bytes that compress like code, the
// banner and the configuration.
func kernelBody(t testing.TB, withConfig bool) []byte {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	code := func(n int) {
		for range n {
			// Many bytes that the x86 filter mistakes for instructions.
			c := []byte{0xe8, 0xe9, 0x00, 0xff, byte(random.Uint32())}
			b.WriteByte(c[random.IntN(len(c))])
		}
	}
	code(100_000)
	b.WriteString("\nLinux version %s (%s)\nLinux version 6.1.192-sov (sov@sov) (gcc) #1 SMP\n")
	b.Write(make([]byte, 70_000)) // long matches
	if withConfig {
		b.WriteString("IKCFG_ST")
		b.Write(gzipped(t, []byte(configText)))
		b.WriteString("IKCFG_ED")
	}
	code(50_000)
	return b.Bytes()
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func arm64Image(body []byte) []byte {
	header := make([]byte, 64)
	copy(header[56:], "ARM\x64")
	return append(header, body...)
}

func bzImage(payload []byte) []byte {
	const sects, offset = 3, 100
	start := (sects+1)*setupSector + offset
	b := make([]byte, start, start+len(payload)+64)
	le := binary.LittleEndian
	b[setupSectsOffset] = sects
	le.PutUint16(b[bootFlagOffset:], bootFlag)
	copy(b[setupMagicOffset:], "HdrS")
	le.PutUint16(b[setupVersionOffset:], 0x020f)
	le.PutUint16(b[xloadflagsOffset:], loadflagKernel64)
	le.PutUint32(b[payloadOffsetOffset:], offset)
	le.PutUint32(b[payloadLengthOffset:], uint32(len(payload)))
	return append(append(b, payload...), make([]byte, 64)...)
}

// withSize appends the uncompressed size, as scripts/Makefile.lib does.
func withSize(compressed []byte, size int) []byte {
	return binary.LittleEndian.AppendUint32(bytes.Clone(compressed), uint32(size))
}

// compressors are the compression commands of the kernel's build, and lz4 in its newer format.
var compressors = map[string][]string{
	"gzip":      {"gzip", "-n", "-9"},
	"bzip2":     {"bzip2", "-9"},
	"lzma":      {"xz", "--format=lzma", "-9"},
	"xz":        {"xz", "--check=crc32", "--lzma2=preset=6"},
	"xz-x86":    {"xz", "--check=crc32", "--x86", "--lzma2=,dict=32MiB"},
	"xz-blocks": {"xz", "--check=sha256", "--block-size=50000", "--x86", "--lzma2=preset=1"},
	"zstd":      {"zstd", "-22", "--ultra"},
	"lz4":       {"lz4", "-l", "-9", "-"},
	"lz4-frame": {"lz4", "-9", "-BD", "-BX", "--content-size", "-"},
}

func compress(t *testing.T, name string, b []byte) []byte {
	t.Helper()
	args := compressors[name]
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Skipf("needs the program %s", args[0])
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(b), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out
}

func checkImage(t *testing.T, b []byte, arch string, boot []byte) {
	t.Helper()
	img, err := Open(b)
	if err != nil {
		t.Fatal(err)
	}
	if img.Arch != arch {
		t.Errorf("Arch = %q, want %q", img.Arch, arch)
	}
	if !bytes.Equal(img.Bytes, boot) {
		t.Error("Bytes is not the image that went in")
	}
	if got := img.Release(); got != "6.1.192-sov" {
		t.Errorf("Release() = %q", got)
	}
	text, err := img.Config()
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != configText {
		t.Errorf("Config() = %q", text)
	}
}

func TestARM64(t *testing.T) {
	image := arm64Image(kernelBody(t, true))
	t.Run("raw", func(t *testing.T) { checkImage(t, image, "arm64", image) })
	for name := range compressors {
		t.Run(name, func(t *testing.T) { checkImage(t, compress(t, name, image), "arm64", image) })
	}
	t.Run("lz4 with size", func(t *testing.T) {
		checkImage(t, withSize(compress(t, "lz4", image), len(image)), "arm64", image)
	})
}

func TestBzImage(t *testing.T) {
	body := kernelBody(t, true)
	for name := range compressors {
		t.Run(name, func(t *testing.T) {
			payload := compress(t, name, body)
			if name != "gzip" {
				payload = withSize(payload, len(body))
			}
			image := bzImage(payload)
			checkImage(t, image, "amd64", image)
		})
	}
}

// TestBuiltKernels reads kernels that builds have left in out/.
func TestBuiltKernels(t *testing.T) {
	names, err := filepath.Glob("../../../out/*/*/kernel")
	if err != nil || len(names) == 0 {
		t.Skip("needs a built kernel: make demo leaves one in out/")
	}
	for _, name := range names {
		img, err := OpenFile(name)
		if err != nil {
			t.Error(err)
			continue
		}
		text, err := img.Config()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c, err := Parse(text)
		if err != nil || c["SYSVIPC"] != "y" {
			t.Errorf("%s: CONFIG_SYSVIPC=%q, %v", name, c["SYSVIPC"], err)
		}
		if img.Release() == "" || !strings.Contains(filepath.ToSlash(name), img.Arch) {
			t.Errorf("%s: %s kernel of release %q", name, img.Arch, img.Release())
		}
	}
}

func TestNoConfig(t *testing.T) {
	img, err := Open(arm64Image(kernelBody(t, false)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := img.Config(); !errors.Is(err, ErrNoConfig) {
		t.Errorf("Config() = %v, want ErrNoConfig", err)
	}
}

func TestBadImages(t *testing.T) {
	good := bzImage(gzipped(t, kernelBody(t, true)))
	changed := func(offset int, b ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[offset:], b)
		return c
	}
	damaged := arm64Image(kernelBody(t, true))
	copy(damaged[bytes.Index(damaged, []byte("IKCFG_ST"))+30:], "garbage!")

	tests := []struct {
		name  string
		image []byte
		want  string
	}{
		{"empty", nil, "not a kernel image"},
		{"ELF", append([]byte("\x7fELF"), make([]byte, 1000)...), "not a kernel image"},
		{"gzip of a text", gzipped(t, []byte("hello")), "not a kernel image"},
		{"zboot", append([]byte("MZ\x00\x00zimg"), make([]byte, 100)...), "EFI zboot"},
		{"cut gzip", gzipped(t, arm64Image(nil))[:20], "uncompress gzip: unexpected EOF"},
		{"old protocol", changed(setupVersionOffset, 4, 2), "boot protocol 2.04"},
		{"32 bits", changed(xloadflagsOffset, 0, 0), "32-bit"},
		{"payload beyond the end", changed(payloadLengthOffset, 0xff, 0xff, 0xff, 0xff), "cut short"},
		{"unknown payload", changed(payloadOffsetOffset, 0, 0), "not known here"},
		{"damaged configuration", damaged, "damaged"},
		// Without the bound, every mark is searched to the end of the image, which takes hours.
		{"a million marks", arm64Image(append(bytes.Repeat([]byte("IKCFG_ST"+gzipMagic), 1<<20), "IKCFG_ED"...)), "the first 16 places"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img, err := Open(tt.image)
			if err == nil {
				_, err = img.Config()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestLimit(t *testing.T) {
	image := arm64Image(make([]byte, 1<<20))
	for name := range compressors {
		t.Run(name, func(t *testing.T) {
			_, err := open(compress(t, name, image), 1<<19)
			if err == nil || !strings.Contains(err.Error(), "larger than") && !strings.Contains(err.Error(), "too large") &&
				!strings.Contains(err.Error(), "window size exceeded") {
				t.Errorf("error %v, want one about the size", err)
			}
		})
	}
}

func TestParse(t *testing.T) {
	got, err := Parse([]byte(configText + "CONFIG_A=y\nCONFIG_A=n\nCONFIG_B=y\n# CONFIG_B is not set\n  CONFIG_C=0x10\r\n\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{"SYSVIPC": "y", "NR_CPUS": "32", "LOCALVERSION": `"-sov"`, "EXT4_FS": "m", "C": "0x10"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := Unset([]byte(configText)); !cmp.Equal(got, []string{"MODULES"}) {
		t.Errorf("Unset = %q", got)
	}
	for _, bad := range []string{"hello", "CONFIG_", "CONFIG_=y", "CONFIG_A", "CONFIG_A B=y", "A=y"} {
		if _, err := Parse([]byte("CONFIG_X=y\n" + bad + "\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("Parse(%q) = %v, want an error that names line 2", bad, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	small := append([]byte("Linux version 6.1.192-sov (x)\x00IKCFG_ST"), gzipped(f, []byte(configText))...)
	small = append(small, "IKCFG_ED"...)
	f.Add(arm64Image(small))
	f.Add(gzipped(f, arm64Image(small)))
	f.Add(bzImage(gzipped(f, small)))
	for name := range compressors {
		if seed, err := os.ReadFile(filepath.Join("testdata", name)); err == nil {
			f.Add(seed)
			f.Add(bzImage(withSize(seed, 1000)))
		} else {
			f.Error(err)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		defer costtest.Text.Watch(t, len(b))()
		img, err := open(b, 1<<18)
		if err != nil {
			return
		}
		img.Release()
		if text, err := img.Config(); err == nil {
			_, _ = Parse(text)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(configText))
	f.Fuzz(func(t *testing.T, text []byte) {
		defer costtest.Text.Watch(t, len(text))()
		c, err := Parse(text)
		if err != nil {
			return
		}
		for name, value := range c {
			again, err := Parse([]byte("CONFIG_" + name + "=" + value))
			if err != nil || again[name] != value {
				t.Errorf("%q=%q does not read back: %v, %v", name, value, again, err)
			}
		}
	})
}
