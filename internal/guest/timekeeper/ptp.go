//go:build linux

package timekeeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/sntp"
)

const (
	// hostClock is the name of the PTP clock with the host's time (drivers/ptp/ptp_kvm_common.c).
	// Those of network cards may have any time.
	hostClock = "KVM virtual PTP"
	ptpEvery  = 16 * time.Second // a reading is one system call
	// ptpSamples is how often the clock is read for one reading; the fastest sample is the most
	// precise.
	ptpSamples = 5
	// maxWindow is the maximum duration of a valid sample: the process may be preempted during one.
	maxWindow = 10 * time.Millisecond
)

// FindPTP returns the host's clock as a source, if the kernel has it. sys and dev are the paths of
// sysfs and of the device nodes.
func FindPTP(sys, dev string) (Source, bool) {
	// The pattern is valid, so there is no error.
	names, _ := filepath.Glob(filepath.Join(sys, "class/ptp/ptp*/clock_name"))
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(b)) != hostClock {
			continue
		}
		device := filepath.Join(dev, filepath.Base(filepath.Dir(name)))
		return Source{Name: "ptp", Every: ptpEvery, Read: func(context.Context) (Reading, error) {
			r, err := readPTP(device)
			if err != nil {
				return r, fmt.Errorf("read %s: %w", device, err)
			}
			return r, nil
		}}, true
	}
	return Source{}, false
}

func readPTP(device string) (Reading, error) {
	f, err := os.Open(device)
	if err != nil {
		return Reading{}, err
	}
	defer f.Close()
	// This reads both clocks at the same counter value.
	if p, err := unix.IoctlPtpSysOffsetPrecise(int(f.Fd())); err == nil {
		return judge(device, ptpTime(p.Realtime), ptpTime(p.Device), 0)
	}
	samples := unix.PtpSysOffset{Samples: ptpSamples}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.PTP_SYS_OFFSET, uintptr(unsafe.Pointer(&samples))); errno != 0 {
		return Reading{}, errno
	}
	return best(device, samples.Ts[:2*ptpSamples+1])
}

// best returns the fastest sample of PTP_SYS_OFFSET. times alternates between the system's clock
// and the PTP clock (include/uapi/linux/ptp_clock.h).
func best(device string, times []unix.PtpClockTime) (Reading, error) {
	var before, host time.Time
	window := time.Duration(-1)
	for i := 0; i+2 < len(times); i += 2 {
		w := ptpTime(times[i+2]).Sub(ptpTime(times[i]))
		if w >= 0 && (window < 0 || w < window) {
			before, host, window = ptpTime(times[i]), ptpTime(times[i+1]), w
		}
	}
	if window < 0 {
		return Reading{}, errors.New("the clock was set meanwhile")
	}
	return judge(device, before.Add(window/2), host, window)
}

func judge(device string, here, host time.Time, window time.Duration) (Reading, error) {
	switch {
	case !sntp.Plausible(host):
		return Reading{}, fmt.Errorf("the host's clock shows %s: it is not set", host.Format(time.DateOnly))
	case window > maxWindow:
		return Reading{}, fmt.Errorf("a reading took %s", window)
	}
	return Reading{Server: device, Offset: host.Sub(here), Uncertainty: window / 2}, nil
}

func ptpTime(t unix.PtpClockTime) time.Time { return time.Unix(t.Sec, int64(t.Nsec)).UTC() }
