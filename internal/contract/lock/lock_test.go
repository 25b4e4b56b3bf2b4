package lock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

var digest = "sha256:" + strings.Repeat("ab", 32)

func example() Entry {
	return Entry{
		Recipe: "sql", Arch: "arm64",
		Inputs: Inputs{Image: "alpine:3.22", Repositories: []string{"https://example.org/main"}, Packages: []string{"postgresql", "icu-libs>=74"}},
		Image:  Image{Reference: "alpine:3.22", Digest: digest},
		Copied: []Image{{Reference: "other:1", Digest: digest}},
		Files:  []RecipeFile{{Path: "/etc/motd", Source: "motd", SHA256: strings.Repeat("ef", 32)}},
		Packages: []Package{
			{Name: "musl", Version: "1.10", Checksum: "Q1abc=", Size: 10, Repository: "https://example.org/main"},
			{Name: "postgresql17", Version: "17.6-r0", Checksum: "Q2def=", Size: 20, Repository: `C:\odd "path"`},
		},
		Removed:   []string{"old-1"},
		Kernel:    &Kernel{Version: "6.1.192", Source: "https://example.org/linux.tar.xz", SHA256: strings.Repeat("cd", 32), Size: 7},
		Tailscale: "v1.102.5",
	}
}

func TestEncodeParse(t *testing.T) {
	bare := Entry{Recipe: "bare", Arch: "amd64", Inputs: Inputs{Image: "x", Repositories: []string{}, Packages: []string{}},
		Image: Image{Reference: "x", Digest: digest}, Packages: []Package{}}
	var f File
	f.Put(example())
	f.Put(bare)
	got, err := Parse("sov.lock", f.Encode())
	if err != nil {
		t.Fatalf("%v\n%s", err, f.Encode())
	}
	if diff := cmp.Diff(&f, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got.Builds[0].Recipe != "bare" {
		t.Error("entries are not in order")
	}
}

func TestParseFaults(t *testing.T) {
	tests := []struct{ name, old, new, want string }{
		{"unknown key", "size: 10", "sise: 10", `sov.lock:24:61: unknown key "sise" in builds[0].packages[0]; did you mean "size"?`},
		{"version", "version: 1\n", "version: 2\n", "is 2, this sov reads 1; move the file away"},
		{"digest", digest, "sha256:1234", "is not sha256: and 64 hexadecimal digits"},
		{"version is text", `"1.10"`, `1.10`, "expected a string, found the number 1.10"},
		{"path in a name", `"musl"`, `"../musl"`, "is not a package's name"},
		{"checksum", "Q1abc=", "abc", "neither a Q1 nor a Q2 checksum"},
		{"kernel", "cdcd", "xyz", "is not 64 hexadecimal digits"},
		{"twice", `"postgresql17"`, `"musl"`, `package "musl" is listed twice`},
		{"arch", `"arm64"`, `"mips"`, "must be arm64 or amd64"},
		{"merge conflict", "version: 1\n", "<<<<<<< HEAD\nversion: 1\n", "sov.lock:"},
	}
	var f File
	f.Put(example())
	good := string(f.Encode())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bad := strings.Replace(good, tt.old, tt.new, 1)
			if bad == good {
				t.Fatalf("nothing to replace in\n%s", good)
			}
			_, err := Parse("sov.lock", []byte(bad))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
	_, err := Parse("sov.lock", []byte(good+strings.SplitN(good, "builds:\n", 2)[1]))
	if err == nil || !strings.Contains(err.Error(), "a second entry") {
		t.Errorf("two entries: %v", err)
	}
}

func TestCheck(t *testing.T) {
	entry := example()
	same := func() Want {
		return Want{Inputs: entry.Inputs, Copied: []string{"other:1"}, Files: entry.Files, KernelSource: true, Tailscale: "v1.102.5"}
	}
	if err := entry.Check("sov.lock", same()); err != nil {
		t.Errorf("nothing changed: %v", err)
	}
	tests := []struct {
		name   string
		change func(*Want)
		want   string // "" if the entry is still valid
	}{
		{"image", func(w *Want) { w.Image = "alpine:edge" }, "the image was alpine:3.22 and is now alpine:edge"},
		{"added package", func(w *Want) { w.Packages = append(w.Packages[:2:2], "curl") }, "packages: added curl"},
		{"other package", func(w *Want) { w.Packages = []string{"postgresql", "curl"} }, "packages: added curl, removed icu-libs>=74"},
		{"order", func(w *Want) { w.Packages = []string{"icu-libs>=74", "postgresql"} }, "packages: are in another order"},
		{"repository", func(w *Want) { w.Repositories = []string{"http://127.0.0.1:1/main"} }, "repositories: added http://127.0.0.1:1/main, removed https://example.org/main"},
		{"kernel", func(w *Want) { w.Kernel = "deb:linux-source-6.1" }, "the kernel source was the default and is now deb:linux-source-6.1"},
		{"finished kernel", func(w *Want) { w.Kernel, w.KernelSource = "whatever", false }, ""},
		{"copied image", func(w *Want) { w.Copied = []string{"another:1"} }, "copied images: added another:1, removed other:1"},
		{"tailscale off", func(w *Want) { w.Tailscale = "" }, "Tailscale was v1.102.5 and is now off"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := same()
			tt.change(&w)
			err := entry.Check("sov.lock", w)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var stale *StaleError
			if !errors.As(err, &stale) {
				t.Fatalf("got %v, want a StaleError", err)
			}
			want := `sov.lock is stale for recipe "sql" on arm64: ` + tt.want + ": run `sov lock RECIPE --update all` or `sov build RECIPE --update-lock`"
			if err.Error() != want {
				t.Errorf("got  %s\nwant %s", err, want)
			}
		})
	}
	entry.Kernel = nil
	if err := entry.Check("sov.lock", same()); err == nil || !strings.Contains(err.Error(), "has no kernel source") {
		t.Errorf("without a kernel: %v", err)
	}
}

func TestLoadMissing(t *testing.T) {
	f, err := Load(filepath.Join(t.TempDir(), "sov.lock"))
	if err != nil || len(f.Builds) != 0 {
		t.Errorf("got %v, %v", f, err)
	}
}

// TestUpdateTogether: many builds write their entries at once. No entry is lost, and no temporary
// file remains.
func TestUpdateTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sov.lock")
	killed := strings.Repeat("left by a build that was killed\n", 1000)
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), ".sov.lock.new-1"), []byte(killed), 0o644); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Go(func() {
			e := example()
			e.Recipe = fmt.Sprintf("r%02d", i)
			if changed, err := Update(path, e); err != nil || !changed {
				t.Errorf("changed %v, %v", changed, err)
			}
		})
	}
	wait.Wait()
	f, err := Load(path)
	if err != nil || len(f.Builds) != 20 {
		t.Fatalf("%d entries, %v", len(f.Builds), err)
	}
	if changed, err := Update(path, f.Builds[3]); changed || err != nil {
		t.Errorf("the same again: changed %v, %v", changed, err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}

func TestUpdateNowhere(t *testing.T) {
	_, err := Update(filepath.Join(t.TempDir(), "missing", "sov.lock"), example())
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "--lock FILE") {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	var file File
	file.Put(example())
	f.Add(file.Encode())
	f.Add([]byte("version: 1\nbuilds: []\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		defer costtest.Text.Watch(t, len(src))()
		got, err := Parse("fuzz", src)
		if err != nil {
			return
		}
		if _, err := Parse("again", got.Encode()); err != nil {
			t.Errorf("what was read cannot be written: %v\n%s", err, got.Encode())
		}
	})
}

func TestDiff(t *testing.T) {
	from, to := example(), example()
	if changes := Diff(&from, &to); len(changes) > 0 {
		t.Errorf("an entry and itself: %v", changes)
	}
	to.Image.Digest = "sha256:" + strings.Repeat("0", 64)
	to.Kernel = &Kernel{Version: "6.1.200"}
	to.Tailscale = "v1.200.0"
	to.Packages = []Package{
		{Name: "musl", Version: "1.10", Checksum: "Q1other="},
		{Name: "zlib", Version: "1", Checksum: "Q1x="},
	}
	var got []string
	for _, c := range Diff(&from, &to) {
		got = append(got, c.String())
	}
	want := []string{
		"~ image alpine:3.22 " + digest + " → sha256:" + strings.Repeat("0", 64),
		"~ kernel linux 6.1.192 → 6.1.200",
		"~ tailscale tailscale.com v1.102.5 → v1.200.0",
		"~ package musl 1.10 (Q1abc=) → 1.10 (Q1other=)",
		"- package postgresql17 17.6-r0",
		"+ package zlib 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	to.Kernel = nil
	if c := Diff(&from, &to)[1]; c.To != "" || !strings.HasPrefix(c.From, "6.1.192 (sha256:cdcd") {
		t.Errorf("without a kernel: %+v", c)
	}
}
