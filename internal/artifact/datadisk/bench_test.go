package datadisk

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/diskfstest"
)

// BenchmarkCreate makes data disks with sov, with go-diskfs as earlier versions did, and with
// mkfs.ext4. It reports how many bytes each new file allocates.
func BenchmarkCreate(b *testing.B) {
	makers := []struct {
		name string
		make func(b *testing.B, name string, size int64) string
	}{
		{"sov", func(b *testing.B, name string, size int64) string {
			if err := Create(b.Context(), name, size); err != nil {
				b.Fatal(err)
			}
			return name
		}},
		{"go-diskfs", func(b *testing.B, name string, size int64) string {
			diskfstest.DataDisk(b, name, size)
			return name
		}},
		{"mkfs.ext4", func(b *testing.B, name string, size int64) string {
			out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", "-i", fmt.Sprint(inodeRatio), name, fmt.Sprintf("%dk", size>>10)).CombinedOutput()
			if err != nil {
				b.Skipf("mkfs.ext4: %v\n%s", err, out)
			}
			return name
		}},
	}
	for _, size := range []int64{8 << 30, 64 << 30} {
		for _, m := range makers {
			b.Run(fmt.Sprintf("%dGiB/%s", size>>30, m.name), func(b *testing.B) {
				dir := b.TempDir()
				var taken int64
				for i := 0; b.Loop(); i++ {
					name := m.make(b, filepath.Join(dir, fmt.Sprint(i)), size)
					info, err := os.Stat(name)
					if err != nil {
						b.Fatal(err)
					}
					taken = info.Sys().(*syscall.Stat_t).Blocks * 512
					if err := os.Remove(name); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(taken)/(1<<20), "MiB-taken")
			})
		}
	}
}
