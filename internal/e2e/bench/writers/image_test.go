package writers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// report is printed by TestMain after the benchmarks.
var report strings.Builder

func TestMain(m *testing.M) {
	if os.Getenv(growthScale) != "" {
		growOnce()
		return
	}
	code := m.Run()
	fmt.Print(report.String())
	os.Exit(code)
}

// BenchmarkImage makes an image of the same tar with each maker in turn, b.N times. It reports the
// medians as multiples of the copy's.
func BenchmarkImage(b *testing.B) {
	corpus, err := WriteCorpus(filepath.Join(b.TempDir(), "corpus.tar"))
	if err != nil {
		b.Fatal(err)
	}
	makers := slices.DeleteFunc(Makers(), func(m Maker) bool { return !m.Available() })
	times := make([][]time.Duration, len(makers))
	for b.Loop() {
		for i, m := range makers {
			times[i] = append(times[i], makeOnce(b, m, corpus))
		}
	}
	table := tabwriter.NewWriter(&report, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(&report, "\next4 image of a tar with %d entries, %d MB of files; median of %d runs in turns\n", corpus.Entries, corpus.Bytes/1e6, len(times[0]))
	fmt.Fprintln(table, "\ttime\tx copy\tx sov\te2fsck -fn\t")
	base, ours := median(times[0]), median(times[1])
	for i, m := range makers {
		t := median(times[i])
		b.ReportMetric(float64(t)/float64(base), strings.ReplaceAll(m.Name, " ", "-")+"/copy")
		fmt.Fprintf(table, "%s\t%.0f ms\t%.2f\t%.2f\t%s\t\n", m.Name, t.Seconds()*1000, float64(t)/float64(base), float64(t)/float64(ours), verdict(b, m, corpus))
	}
	table.Flush()
}

// makeOnce makes one image and returns the time that it took.
func makeOnce(b *testing.B, m Maker, c Corpus) time.Duration {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	scratch := filepath.Join(dir, "scratch")
	if err := os.Mkdir(scratch, 0o755); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if err := m.Make(c, filepath.Join(dir, "image"), scratch); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

// verdict returns e2fsck's result for a maker's image.
func verdict(b *testing.B, m Maker, c Corpus) string {
	if m.Name == "copy" {
		return "-"
	}
	dir := b.TempDir()
	scratch, image := filepath.Join(dir, "scratch"), filepath.Join(dir, "image")
	if err := os.Mkdir(scratch, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := m.Make(c, image, scratch); err != nil {
		b.Fatal(err)
	}
	if err := exec.Command("e2fsck", "-fn", image).Run(); err != nil {
		return err.Error()
	}
	return "clean"
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}
