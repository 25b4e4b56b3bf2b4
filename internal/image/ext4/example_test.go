package ext4_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// A tree becomes an image that the kernel can mount. This requires neither root nor a mount. The
// same tree makes the same image, UUID included.
func Example() {
	t := tree.New()
	if err := t.Put("etc/hostname", &tree.Inode{Mode: tree.S_IFREG | 0o644, Content: tree.Bytes([]byte("sql\n"))}); err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "ext4-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "rootfs.img")
	image, err := os.Create(path)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := ext4.Write(context.Background(), image, t, ext4.Options{Label: "root"}); err != nil {
		log.Fatal(err)
	}
	if err := image.Close(); err != nil {
		log.Fatal(err)
	}

	f, err := ext4.OpenFile(path)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	hostname, err := fs.ReadFile(f, "etc/hostname")
	if err != nil {
		log.Fatal(err)
	}
	faults, err := f.Check(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s%d faults\n", hostname, len(faults))
	// Output:
	// sql
	// 0 faults
}
