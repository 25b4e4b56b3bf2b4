package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/registrytest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// buildOnce builds sql or a changed recipe and returns the artifact's folder.
func buildOnce(b *testing.B, recipe, cache string, args ...string) string {
	b.Helper()
	dir := b.TempDir()
	command := exec.Command(sovtest.Program, append(append([]string{"build", recipe, "-o", dir, "--cache", cache,
		"--lock", sovtest.SharedLock("arm64")}, sovtest.FromMirror()...), args...)...)
	if out, err := command.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(dir, "sql", "arm64")
}

// BenchmarkCaches measures builds of sql with every stage cached: in the local cache, and in a
// registry on this computer with an empty local cache. It also measures a copy of the artifact,
// which is the limit for the second.
func BenchmarkCaches(b *testing.B) {
	registry := registrytest.Start(b)
	sovtest.FillRegistry(b, registry, "max")
	from := []string{"--cache-from", registry.Repository("team/cache")}
	warm := b.TempDir()
	dir := buildOnce(b, "sql", warm, from...)
	b.Run("warm-local", func(b *testing.B) {
		for b.Loop() {
			buildOnce(b, "sql", warm)
		}
	})
	b.Run("warm-remote", func(b *testing.B) {
		registry.Traffic()
		for b.Loop() {
			buildOnce(b, "sql", b.TempDir(), from...)
		}
		traffic := registry.Traffic()
		b.ReportMetric(float64(traffic.Out)/1e6/float64(b.N), "MB-moved/op")
		b.ReportMetric(float64(traffic.Requests)/float64(b.N), "requests/op")
	})
	b.Run("copy", func(b *testing.B) {
		for b.Loop() {
			out := filepath.Join(b.TempDir(), "copy")
			if text, err := exec.Command("cp", "-r", dir, out).CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, text)
			}
			if text, err := exec.Command("sync", "-f", out).CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, text)
			}
		}
	})
}

// growth caches the results of BenchmarkCacheGrowth, which runs several times but measures once.
var growth map[string]float64

// BenchmarkCacheGrowth measures how much the local cache and a registry with all results grow over
// ten successive changes of the sql recipe.
func BenchmarkCacheGrowth(b *testing.B) {
	if growth == nil {
		growth = measureGrowth(b)
	}
	for unit, n := range growth {
		b.ReportMetric(n, unit)
	}
	b.ReportMetric(0, "ns/op")
}

func measureGrowth(b *testing.B) map[string]float64 {
	registry := registrytest.Start(b)
	sovtest.FillRegistry(b, registry, "max")
	remote := registry.Repository("team/cache")
	cache, recipe := b.TempDir(), filepath.Join(b.TempDir(), "sql.yaml")
	change := func(megabytes int) {
		if err := os.WriteFile(recipe, sovtest.SQL(sovtest.WithSetting(fmt.Sprintf("work_mem: %dMB", megabytes))), 0o644); err != nil {
			b.Fatal(err)
		}
		buildOnce(b, recipe, cache, "--cache-from", remote, "--cache-to", remote)
	}
	change(5) // fetches what the root file system is assembled from
	local, kept := diskUsage(b, cache), registry.Size()
	registry.Traffic()
	start := time.Now()
	const changes = 10
	for i := range changes {
		change(6 + i)
	}
	return map[string]float64{
		"s/change":           time.Since(start).Seconds() / changes,
		"local-MB/change":    float64(diskUsage(b, cache)-local) / 1e6 / changes,
		"registry-MB/change": float64(registry.Size()-kept) / 1e6 / changes,
		"MB-sent/change":     float64(registry.Traffic().In) / 1e6 / changes,
		"registry-MB-before": float64(kept) / 1e6,
	}
}

// diskUsage returns the bytes that a folder uses on disk.
func diskUsage(b *testing.B, dir string) (n int64) {
	b.Helper()
	out, err := exec.Command("du", "-s", "--block-size=1", dir).Output()
	if err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Sscan(string(out), &n); err != nil {
		b.Fatal(err)
	}
	return n
}
