package writers

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// growthScale is the variable by which this program starts itself to make one image of that many
// trees. The peak memory of the child is then the peak of one image.
const growthScale = "BENCH_GROWTH_SCALE"

// A growth is the cost of making one image.
type growth struct {
	Entries  int
	Seconds  float64
	PeakRSS  int64 // bytes
	ImageLen int64
}

// nowhere is a target that discards its input, to exclude the disk from the measurement.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nowhere) Truncate(int64) error                   { return nil }

// zeros is an endless source of zeros.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// growOnce makes an image at the scale in the environment and prints a growth.
func growOnce() {
	scale, err := strconv.Atoi(os.Getenv(growthScale))
	var g growth
	if err == nil {
		g, err = measureGrowth(scale)
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(g)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func measureGrowth(scale int) (growth, error) {
	t := tree.New()
	corpus, err := eachEntry(scale, func(h *tar.Header, _ [32]byte) error {
		n := &tree.Inode{Mode: uint32(h.Mode), ModTime: h.ModTime, Target: h.Linkname}
		switch h.Typeflag {
		case tar.TypeDir:
			n.Mode |= tree.S_IFDIR
		case tar.TypeSymlink:
			n.Mode |= tree.S_IFLNK
		default:
			n.Mode |= tree.S_IFREG
			n.Content = tree.Section(zeros{}, 0, h.Size)
		}
		return t.Put(h.Name, n)
	})
	if err != nil {
		return growth{}, err
	}
	start := time.Now()
	stats, err := ext4.Write(context.Background(), nowhere{}, t, ext4.Options{})
	if err != nil {
		return growth{}, err
	}
	elapsed := time.Since(start)
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return growth{}, err
	}
	return growth{corpus.Entries, elapsed.Seconds(), usage.Maxrss << 10, stats.Size}, nil
}

// BenchmarkGrowth makes images at scales 1, 10, 25 and 100, and reports time and peak memory. Scale
// 25 is a 4 GB image. The disk is neither read nor written.
func BenchmarkGrowth(b *testing.B) {
	fmt.Fprintf(&report, "\next4 image of ever larger trees, from memory to nowhere\n")
	table := tabwriter.NewWriter(&report, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "entries\timage\ttime\tpeak memory\t")
	var rows []string
	for _, scale := range []int{1, 10, 25, 100} {
		b.Run(fmt.Sprintf("%dx", scale), func(b *testing.B) {
			var g growth
			for b.Loop() {
				g = growInChild(b, scale)
			}
			b.ReportMetric(float64(g.PeakRSS)/(1<<20), "MiB-peak")
			rows = append(rows, fmt.Sprintf("%d\t%d MB\t%.2f s\t%d MiB\t", g.Entries, g.ImageLen/1e6, g.Seconds, g.PeakRSS>>20))
		})
	}
	for _, row := range rows {
		fmt.Fprintln(table, row)
	}
	table.Flush()
}

func growInChild(b *testing.B, scale int) growth {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), growthScale+"="+strconv.Itoa(scale))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatal(err)
	}
	var g growth
	if err := json.Unmarshal(out, &g); err != nil {
		b.Fatal(err)
	}
	return g
}
