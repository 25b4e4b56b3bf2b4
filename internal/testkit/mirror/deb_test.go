package mirror

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
)

// arFile returns an ar archive of members, given as pairs of name and content.
func arFile(members ...string) []byte {
	var buf bytes.Buffer
	buf.WriteString(arMagic)
	for i := 0; i < len(members); i += 2 {
		name, content := members[i], members[i+1]
		fmt.Fprintf(&buf, "%-16s%-12d%-6d%-6d%-8o%-10d`\n%s", name, 0, 0, 0, 0o644, len(content), content)
		if len(content)%2 == 1 {
			buf.WriteByte('\n')
		}
	}
	return buf.Bytes()
}

// tarFile returns a tar of the entries.
func tarFile(t testing.TB, entries ...tarEntry) string {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		e.Size = int64(len(e.content))
		e.Uname, e.Gname, e.ModTime = "root", "root", time.Unix(1_700_000_000, 0)
		if err := tw.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

type tarEntry struct {
	tar.Header
	content string
}

// compressed compresses content in the format of ending, such as ".gz".
func compressed(t testing.TB, ending, content string) string {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser
	var err error
	switch ending {
	case ".gz":
		w = gzip.NewWriter(&buf)
	case ".xz":
		w, err = xz.NewWriter(&buf)
	case ".zst":
		w, err = zstd.NewWriter(&buf)
	default:
		return content
	}
	if err == nil {
		_, err = io.WriteString(w, content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

const exampleControl = `Package: libexample1
Source: example (1.0)
Version: 1:1.0-2+b1
Architecture: arm64
Homepage: https://example.org
Description: an example
 Version: of something else, in the description
`

// exampleDeb returns a package whose members are compressed in the format of ending.
func exampleDeb(t testing.TB, ending string) []byte {
	control := tarFile(t,
		tarEntry{tar.Header{Typeflag: tar.TypeReg, Name: "./control", Mode: 0o644}, exampleControl},
		tarEntry{tar.Header{Typeflag: tar.TypeReg, Name: "./shlibs", Mode: 0o644}, "libexample 1 libexample1\nudeb: libexample 1 other\n"},
	)
	data := tarFile(t,
		tarEntry{tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}, ""},
		tarEntry{tar.Header{Typeflag: tar.TypeDir, Name: "./usr/", Mode: 0o755}, ""},
		tarEntry{tar.Header{Typeflag: tar.TypeReg, Name: "./usr/file", Mode: 0o4755}, "content"},
		tarEntry{tar.Header{Typeflag: tar.TypeLink, Name: "./usr/hard", Linkname: "./usr/file", Mode: 0o4755}, ""},
		tarEntry{tar.Header{Typeflag: tar.TypeSymlink, Name: "./usr/soft", Linkname: "../usr/file", Mode: 0o777}, ""},
		tarEntry{tar.Header{Typeflag: tar.TypeReg, Name: "./usr/share/doc/copyright", Mode: 0o644}, "left out"},
	)
	return arFile("debian-binary", "2.0\n",
		"control.tar"+ending, compressed(t, ending, control),
		"data.tar"+ending, compressed(t, ending, data))
}

func TestOpenDeb(t *testing.T) {
	for _, ending := range []string{"", ".gz", ".xz", ".zst"} {
		t.Run("tar"+ending, func(t *testing.T) {
			file := exampleDeb(t, ending)
			d, err := openDeb(bytes.NewReader(file), int64(len(file)))
			if err != nil {
				t.Fatal(err)
			}
			got := []string{d.name, d.version, d.architecture, d.source, d.summary, d.homepage, strings.Join(d.sonames, " ")}
			want := []string{"libexample1", "1:1.0-2+b1", "arm64", "example", "an example", "https://example.org", "libexample.so.1 libexample-1.so"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("control (-want +got):\n%s", diff)
			}
			files, err := d.files(leaveOut)
			if err != nil {
				t.Fatal(err)
			}
			common := apkbuild.File{Owner: "root", Group: "root", ModTime: time.Unix(1_700_000_000, 0)}
			wantFiles := []apkbuild.File{common, common, common, common}
			wantFiles[0].Name, wantFiles[0].Type, wantFiles[0].Mode = "usr", apkbuild.Directory, 0o755
			wantFiles[1].Name, wantFiles[1].Type, wantFiles[1].Mode, wantFiles[1].Data = "usr/file", apkbuild.Regular, 0o4755, []byte("content")
			wantFiles[2].Name, wantFiles[2].Type, wantFiles[2].Mode, wantFiles[2].Target = "usr/hard", apkbuild.HardLink, 0o4755, "usr/file"
			wantFiles[3].Name, wantFiles[3].Type, wantFiles[3].Mode, wantFiles[3].Target = "usr/soft", apkbuild.Symlink, 0o777, "../usr/file"
			if diff := cmp.Diff(wantFiles, files, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOpenDebRefuses(t *testing.T) {
	good := string(exampleDeb(t, ".gz"))
	control := compressed(t, ".gz", tarFile(t, tarEntry{tar.Header{Typeflag: tar.TypeReg, Name: "control", Mode: 0o644}, exampleControl}))
	cases := []struct{ name, file, want string }{
		{"empty", "", "not an ar archive"},
		{"other archive", string(arFile("hello.o", "x")), "debian-binary"},
		{"cut in a header", good[:len(arMagic)+30], "member's header"},
		{"cut in a member", good[:len(good)-10], "ends in a member"},
		{"negative size", strings.Replace(good, "4         `", "-4        `", 1), "malformed member header"},
		{"no data", string(arFile("debian-binary", "2.0\n", "control.tar.gz", control)), "lacks a control or a data member"},
		{"unknown compression", string(arFile("debian-binary", "2.0\n", "control.tar.lzma", control)), "unknown compression"},
		{"nameless", string(arFile("debian-binary", "2.0\n", "control.tar", tarFile(t), "data.tar", tarFile(t))), "names no package"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := openDeb(strings.NewReader(c.file), int64(len(c.file)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestDecompressLimit(t *testing.T) {
	bomb := compressed(t, ".gz", strings.Repeat("\x00", 1<<20))
	r, err := decompress(strings.NewReader(bomb), "data.tar.gz", 1<<19)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); err == nil || n > 1<<19 {
		t.Errorf("read %d bytes with error %v from what is limited to %d", n, err, 1<<19)
	}
}

func FuzzDeb(f *testing.F) {
	for _, ending := range []string{"", ".gz", ".zst"} {
		f.Add(exampleDeb(f, ending))
	}
	f.Add(arFile("debian-binary", "2.0\n", "control.tar", "", "data.tar", ""))
	f.Fuzz(func(t *testing.T, file []byte) {
		if bytes.Contains(file, []byte(".tar.xz")) {
			t.Skip("the decompressor is not what is tested, and allocates what the file asks for")
		}
		d, err := openDeb(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return
		}
		if _, err := d.files(leaveOut); err != nil {
			return
		}
		for _, part := range plan(d.name, false) {
			if part.name == "" {
				t.Errorf("package %q becomes one without a name", d.name)
			}
		}
	})
}
