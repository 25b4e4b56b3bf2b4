package doctor

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/pipeline/progress"
	"golang.org/x/sys/unix"
)

// checkCache looks whether the cache folder can be written to and has room.
func checkCache(cacheDir func() (string, error)) Finding {
	f := Finding{Check: "cache folder", Group: "cache", Advice: "set $SOV_CACHE_DIR to a folder on a larger or writable disk"}
	dir, err := cacheDir()
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		f.Found = err.Error()
		return f
	}
	probe, err := os.CreateTemp(dir, "doctor-")
	if err != nil {
		f.Found = err.Error()
		return f
	}
	probe.Close()
	os.Remove(probe.Name())
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		f.Found = err.Error()
		return f
	}
	free := int64(stat.Bavail) * int64(stat.Bsize)
	f.Found = fmt.Sprintf("%s, %s free", filepath.Clean(dir), progress.FormatSize(free))
	if free < buildSpace {
		f.Found += fmt.Sprintf(", a first build needs %s", progress.FormatSize(buildSpace))
		return f
	}
	f.OK, f.Advice = true, ""
	return f
}
