package crosvmcli

import (
	"fmt"
	"slices"
	"strings"
)

// A Release is a release of Android, by its column in the table. Android 14 QPR1 has the crosvm of
// Android 14.
type Release string

// Releases of Android with a distinct crosvm.
const (
	Android13     Release = "13"
	Android14     Release = "14"
	Android14QPR2 Release = "14Q2"
	Android14QPR3 Release = "14Q3"
	Android15     Release = "15"
	Android15QPR1 Release = "15Q1"
	Android15QPR2 Release = "15Q2" // the published release nearest to Android 16
)

// Releases lists all releases, the oldest first.
var Releases = []Release{Android13, Android14, Android14QPR2, Android14QPR3, Android15, Android15QPR1, Android15QPR2}

// ParseRelease returns the release with a name, such as "14Q2".
func ParseRelease(name string) (Release, error) {
	if i := slices.Index(Releases, Release(name)); i >= 0 {
		return Releases[i], nil
	}
	return "", fmt.Errorf("release %q: must be one of %v", name, Releases)
}

// Version returns the release's ro.build.version.release.
func (r Release) Version() string { return string(r[:2]) }

// AtLeast reports whether r is as new as other.
func (r Release) AtLeast(other Release) bool {
	return slices.Index(Releases, r) >= slices.Index(Releases, other)
}

// upstream maps a release to the day of its newest commit from crosvm's upstream repository. The
// release lacks keys of values that were added later.
var upstream = map[Release]string{Android13: "2022-04-11", Android14: "2023-04-10", Android14QPR2: "2023-10-23", Android14QPR3: "2024-02-05",
	Android15: "2024-04-12", Android15QPR1: "2024-09-23", Android15QPR2: "2024-11-22"}

// features maps a release to the features with which Android builds its crosvm (Android.bp,
// rust_binary crosvm). Android 13 has balloon and net without features of these names, Android 14
// net.
var features = map[Release]string{
	Android13:     "audio usb balloon net",
	Android14:     "android-sparse audio balloon gdb geniezone gunyah qcow usb net",
	Android14QPR2: "android-sparse audio balloon gdb geniezone gunyah qcow usb net",
	Android14QPR3: "android-sparse audio balloon gdb geniezone gunyah qcow usb net config-file gfxstream gpu virgl_renderer",
	Android15:     "android-sparse audio balloon gdb geniezone gunyah qcow usb net config-file gfxstream gpu virgl_renderer android_display audio_aaudio",
	Android15QPR1: "android-sparse audio balloon gdb geniezone gunyah qcow usb net config-file gfxstream gpu virgl_renderer android_display audio_aaudio",
	Android15QPR2: "android-sparse audio balloon gdb geniezone gunyah qcow usb net config-file gfxstream gpu virgl_renderer android_display audio_aaudio fs_runtime_ugid_map",
}

func (r Release) hasFeature(name string) bool {
	return slices.Contains(strings.Fields(features[r]), name)
}

// deprecates reports whether a release's crosvm warns about a flag, which still works.
func (r Release) deprecates(f Flag) bool {
	_, day, ok := strings.Cut(f.Deprecated, " ")
	return ok && day <= upstream[r]
}
