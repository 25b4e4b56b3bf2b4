package device

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func TestParseDevices(t *testing.T) {
	text := "* daemon not running; starting now at tcp:5037\n* daemon started successfully\nList of devices attached\n" +
		"3A1B2C3D               device usb:1-2 product:shiba model:Pixel_8 device:shiba transport_id:1\n" +
		"127.0.0.1:5555         offline transport_id:2\n" +
		"R58M                   unauthorized usb:1-3 transport_id:3\n" +
		"????????????           no permissions (user in plugdev group; are your udev rules wrong?); see [http://developer.android.com/tools/device.html] usb:1-4 transport_id:4\n\n"
	devices, err := ParseDevices([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := "[3A1B2C3D (Pixel_8) 127.0.0.1:5555, offline R58M, unauthorized ????????????, no permissions]"
	if got := fmt.Sprint(devices); got != want {
		t.Errorf("devices are %s, want %s", got, want)
	}
	for _, d := range devices {
		if d.advice() == "" {
			t.Errorf("nothing to do about %v", d)
		}
	}
}

// FuzzParseDevices: accepted devices can be printed, and their serials can be arguments of adb.
func FuzzParseDevices(f *testing.F) {
	f.Add([]byte("List of devices attached\nX device model:Y\n"))
	f.Add([]byte("-s\tdevice\n\x1b[31m no permissions\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		defer costtest.Text.Watch(t, len(text))()
		devices, err := ParseDevices(text)
		if err != nil {
			return
		}
		for _, d := range devices {
			if d.Serial == "" || strings.HasPrefix(d.Serial, "-") || strings.ContainsAny(d.String(), "\n\r\x1b\x00") {
				t.Errorf("%q was read as %q", text, d)
			}
		}
	})
}

// FuzzStream: the bytes before the mark pass and the bytes after it are the status, whatever the
// sizes of the writes.
func FuzzStream(f *testing.F) {
	f.Add([]byte("output"), uint8(3), uint8(1))
	f.Add([]byte("MAMARMARMARKMMARKMAR"), uint8(0), uint8(2))
	f.Fuzz(func(t *testing.T, text []byte, status, size uint8) {
		defer costtest.Text.Watch(t, len(text))()
		const mark = "MARKMARX"
		if bytes.Contains(text, []byte(mark)) {
			return
		}
		var out bytes.Buffer
		ended := 0
		s := &stream{to: &out, mark: []byte(mark), status: true, ended: func() { ended++ }}
		whole := fmt.Appendf(append([]byte(nil), text...), "%s%d\nof a daemon", mark, status)
		for len(whole) > 0 {
			n := min(int(size)+1, len(whole))
			if _, err := s.Write(whole[:n]); err != nil {
				t.Fatal(err)
			}
			whole = whole[n:]
		}
		done, code, err := s.result()
		if !done || err != nil || code != int(status) || ended != 1 || !bytes.Equal(out.Bytes(), text) {
			t.Errorf("%q: passed %q, done %t, status %d, ended %d times, %v", text, out.Bytes(), done, code, ended, err)
		}
	})
}
