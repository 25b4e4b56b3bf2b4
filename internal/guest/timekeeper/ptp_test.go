//go:build linux

package timekeeper

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func ptpAt(t time.Time) unix.PtpClockTime {
	return unix.PtpClockTime{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}

// TestBestReading: best uses the reading with the shortest window. In a longer one the processor
// was interrupted.
func TestBestReading(t *testing.T) {
	const ahead = time.Hour
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	var times []unix.PtpClockTime
	for _, window := range []time.Duration{5 * time.Millisecond, 2 * time.Microsecond, time.Millisecond} {
		times = append(times, ptpAt(at), ptpAt(at.Add(ahead+1*time.Microsecond)))
		at = at.Add(window)
	}
	times = append(times, ptpAt(at))
	r, err := best("ptp0", times)
	if err != nil || r.Offset != ahead || r.Uncertainty != time.Microsecond || r.Server != "ptp0" {
		t.Errorf("%+v, %v", r, err)
	}
	backwards := []unix.PtpClockTime{ptpAt(at), ptpAt(at), ptpAt(at.Add(-time.Second))}
	if _, err := best("ptp0", backwards); err == nil || !strings.Contains(err.Error(), "set meanwhile") {
		t.Errorf("a clock that was set between: %v", err)
	}
	slow := []unix.PtpClockTime{ptpAt(at), ptpAt(at), ptpAt(at.Add(time.Second))}
	if _, err := best("ptp0", slow); err == nil || !strings.Contains(err.Error(), "took") {
		t.Errorf("a slow reading: %v", err)
	}
	epoch := time.Unix(100, 0)
	if _, err := best("ptp0", []unix.PtpClockTime{ptpAt(at), ptpAt(epoch), ptpAt(at)}); err == nil || !strings.Contains(err.Error(), "not set") {
		t.Errorf("a host in 1970: %v", err)
	}
}

// TestFindPTP: FindPTP uses only the host's clock, not a network card's.
func TestFindPTP(t *testing.T) {
	sys := t.TempDir()
	for name, clock := range map[string]string{"ptp0": "virtio_rtc", "ptp1": "KVM virtual PTP"} {
		dir := filepath.Join(sys, "class/ptp", name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "clock_name"), []byte(clock+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, ok := FindPTP(sys, filepath.Join(sys, "dev"))
	if !ok || s.Name != "ptp" {
		t.Fatalf("%+v, %v", s, ok)
	}
	if _, err := s.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "dev/ptp1") {
		t.Errorf("a device that is not there: %v", err)
	}
	if _, ok := FindPTP(t.TempDir(), "/dev"); ok {
		t.Error("a clock is found where there is none")
	}
}
