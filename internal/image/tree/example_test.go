package tree_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"log"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// Two layers of a container image become one tree. The second removes one file of the first and
// adds another.
func ExampleTree_ApplyTar() {
	layer := func(names ...string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, name := range names {
			if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644}); err != nil {
				log.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			log.Fatal(err)
		}
		return b.Bytes()
	}
	t := tree.New()
	for _, tar := range [][]byte{
		layer("etc/motd", "etc/passwd"),
		layer("etc/.wh.motd", "etc/hosts"),
	} {
		if err := t.ApplyTar(bytes.NewReader(tar), int64(len(tar)), tree.TarOptions{Whiteouts: true}); err != nil {
			log.Fatal(err)
		}
	}
	etc, _ := t.Lookup("etc")
	for _, e := range etc.Entries() {
		fmt.Println(e.Name)
	}
	// Output:
	// hosts
	// passwd
}

// Resolve follows symbolic links inside the tree, as in a chroot.
func ExampleTree_Resolve() {
	t := tree.New()
	for path, n := range map[string]*tree.Inode{
		"srv/www/index.html": {Mode: tree.S_IFREG | 0o644, Content: tree.Bytes([]byte("<!doctype html>"))},
		"www":                {Mode: tree.S_IFLNK | 0o777, Target: "/../srv/www"},
	} {
		if err := t.Put(path, n); err != nil {
			log.Fatal(err)
		}
	}
	path, n, err := t.Resolve("www/index.html")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(path, n.Content.Size)
	// Output: srv/www/index.html 15
}
