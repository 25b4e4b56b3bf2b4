package sovtest

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/kernel"
)

// A BuildReport is the part of the output of `sov build --json` that the tests read.
type BuildReport struct {
	Stages []struct {
		Name   string
		Status string
	}
	Files []struct {
		Name    string
		Changed bool
	}
}

func (r BuildReport) Built() []string {
	var names []string
	for _, s := range r.Stages {
		if s.Status != "cached" {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names
}

// SmallBuild builds SmallRecipe, edited by change if it is not nil, in dir with a cache there.
func SmallBuild(t *testing.T, dir string, change func(string) string, args ...string) Outcome {
	t.Helper()
	recipe := SmallRecipe
	if change != nil {
		recipe = change(recipe)
	}
	if err := os.WriteFile(filepath.Join(dir, "mine.yaml"), []byte(recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	flags := slices.Concat([]string{"build", "./mine.yaml", "--progress", "plain", "--cache", "cache"}, FromMirror(), args)
	return Run(t, func(c *exec.Cmd) { c.Dir = dir }, flags...)
}

// SmallRecipe has a base image and a database, and compiles nothing.
const SmallRecipe = `name: small
version: "1"
base:
  image: docker.io/library/alpine:3.22
packages:
  repositories: [https://dl-cdn.alpinelinux.org/alpine/v3.22/main]
  install: [postgresql, e2fsprogs]
  scripts: ["*"]
users:
  - {name: postgres, uid: 70, gid: 70}
network:
  publish: [5432]
postgres:
  enabled: true
`

// ArmKernel writes a file with only the header of an arm64 Image (Documentation/arm64/booting.rst)
// and an embedded configuration, and returns its path.
func ArmKernel(t *testing.T, config string) string {
	t.Helper()
	image := make([]byte, 4096)
	binary.LittleEndian.PutUint64(image[16:], 4096)
	copy(image[56:], "ARM\x64")
	image = append(image, "IKCFG_ST"...)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write([]byte(config)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	image = append(append(image, packed.Bytes()...), "IKCFG_ED"...)
	return TempFile(t, "Image", image)
}

// AllOptions returns a kernel configuration with every option that the guest needs.
func AllOptions() string {
	var b strings.Builder
	for _, r := range kernel.Requirements("arm64", kernel.AllFeatures) {
		fmt.Fprintf(&b, "CONFIG_%s=y\n", r.Option)
	}
	return b.String()
}

// TempFile writes a file to a temporary folder of the test and returns its path.
func TempFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
