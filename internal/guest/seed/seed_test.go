package seed

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

const (
	meta = "instance-id: i-1\nlocal-hostname: db.example.org\n"
	user = "#cloud-config\npackages: [vim]\nssh_authorized_keys: [ssh-ed25519 AAAA]\nsov:\n  secrets:\n    postgres: 'hunter: 2'\n"
)

// iso makes a seed disk with genisoimage.
func iso(t testing.TB, label string, args []string, files map[string]string) []byte {
	t.Helper()
	program, err := exec.LookPath("genisoimage")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	from, out := filepath.Join(dir, "files"), filepath.Join(dir, "iso")
	if err := os.Mkdir(from, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(from, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), program, append([]string{"-quiet", "-volid", label, "-output", out}, append(args, from)...)...)
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var kinds = map[string][]string{
	"Joliet and Rock Ridge": {"-joliet", "-rock"}, // virt-install, cloud-localds
	"Rock Ridge":            {"-iso-level", "3", "-rock"},
	"Joliet":                {"-joliet"},
	"ISO's own names":       {"-iso-level", "3"},
}

// TestRead reads disks of genisoimage, the usual program for seeds.
func TestRead(t *testing.T) {
	files := map[string]string{"meta-data": meta, "user-data": user, "vendor-data": "x"}
	for i := range 100 { // a directory of several sectors
		files[strings.Repeat("x", 20)+string(rune('a'+i%26))+string(rune('a'+i/26))] = ""
	}
	for name, args := range kinds {
		t.Run(name, func(t *testing.T) {
			c, err := Read(bytes.NewReader(iso(t, "CIDATA", args, files)))
			if err != nil || c.Hostname != "db" || !maps.Equal(c.Secrets, map[string]string{"postgres": "hunter: 2"}) {
				t.Errorf("%v, %v, %q", err, c, c.Secrets)
			}
		})
	}
}

// fatDisk makes a FAT disk with mkfs.fat and mtools.
func fatDisk(t testing.TB, label string, bits, mebibytes int, files map[string]string) []byte {
	t.Helper()
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	run := func(name string, args ...string) {
		t.Helper()
		path, err := exec.LookPath(name)
		if err != nil {
			if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
				t.Skip(err)
			}
		}
		if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	run("mkfs.fat", "-C", "-F", strconv.Itoa(bits), "-n", label, disk, strconv.Itoa(mebibytes<<10))
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(files[name]), 0o644); err != nil {
			t.Fatal(err)
		}
		run("mcopy", "-i", disk, path, "::")
	}
	b, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestReadFAT reads disks of mkfs.fat, with a file of several clusters.
func TestReadFAT(t *testing.T) {
	files := map[string]string{"meta-data": meta, "user-data": user + "# " + strings.Repeat("long ", 20_000) + "\n", "network-config": "x"}
	for bits, mebibytes := range map[int]int{12: 2, 16: 20, 32: 40} {
		c, err := Read(bytes.NewReader(fatDisk(t, "CIDATA", bits, mebibytes, files)))
		if err != nil || c.Hostname != "db" || c.Secrets["postgres"] != "hunter: 2" {
			t.Errorf("FAT%d: %v, %v", bits, err, c)
		}
	}
	if _, err := Read(bytes.NewReader(fatDisk(t, "SOV-ESP", 12, 2, files))); !errors.Is(err, ErrNone) {
		t.Errorf("another label: %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	files := map[string]string{"meta-data": meta, "user-data": user}
	for name, tt := range map[string]struct {
		disk []byte
		want string
	}{
		"an empty disk":           {make([]byte, 1<<20), ErrNone.Error()},
		"no disk":                 {nil, ErrNone.Error()},
		"another label":           {iso(t, "config-2", kinds["Joliet"], files), ErrNone.Error()},
		"cut off":                 {iso(t, "cidata", kinds["Joliet"], map[string]string{"user-data": "#cloud-config\n" + strings.Repeat("#", 1<<17)})[:64<<10], "unexpected EOF"},
		"a secret that is a list": {iso(t, "cidata", kinds["Joliet"], map[string]string{"user-data": "#cloud-config\nsov: {secrets: {postgres: [hunter2]}}\n"}), "not a map of names"},
		"a host name of blanks":   {iso(t, "cidata", kinds["Joliet"], map[string]string{"meta-data": "local-hostname: a b\n"}), "host name"},
	} {
		_, err := Read(bytes.NewReader(tt.disk))
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	if c, err := Read(bytes.NewReader(iso(t, "cidata", kinds["Joliet"], map[string]string{"user-data": "#!/bin/sh\nrm -rf /\n"}))); err != nil || c.Hostname != "" {
		t.Errorf("a script as user-data: %v, %v", c, err)
	}
	if _, err := Read(bytes.NewReader(nil)); !errors.Is(err, ErrNone) {
		t.Errorf("no disk: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	files := map[string]string{"meta-data": meta, "user-data": user}
	for _, args := range kinds {
		f.Add(iso(f, "cidata", args, files))
	}
	f.Add(fatDisk(f, "CIDATA", 12, 1, files))
	f.Fuzz(func(t *testing.T, disk []byte) {
		defer costtest.Text.Watch(t, len(disk))()
		if c, err := Read(bytes.NewReader(disk)); err == nil && c.Validate() != nil {
			t.Error("what was read is not valid")
		}
	})
}
