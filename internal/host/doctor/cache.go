package doctor

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"golang.org/x/sys/unix"
)

// checkCache checks that the cache folder is writable and has enough free space.
func checkCache(cacheDir func() (string, error)) finding.Finding {
	const check = "cache folder"
	failed := func(what string) finding.Finding {
		return finding.Fail(check, what, "set $SOV_CACHE_DIR to a folder on a larger or writable disk")
	}
	dir, err := cacheDir()
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return failed(err.Error())
	}
	probe, err := os.CreateTemp(dir, "doctor-")
	if err != nil {
		return failed(err.Error())
	}
	probe.Close()
	os.Remove(probe.Name())
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return failed(err.Error())
	}
	free := int64(stat.Bavail) * int64(stat.Bsize)
	found := fmt.Sprintf("%s, %s free", filepath.Clean(dir), progress.FormatSize(free))
	if free < buildSpace {
		return failed(fmt.Sprintf("%s, a first build needs %s", found, progress.FormatSize(buildSpace)))
	}
	return finding.Pass(check, "%s", found)
}
