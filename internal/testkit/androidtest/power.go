package androidtest

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// furnishPower creates the parts of /sys that report the battery and its temperature, and the files
// that take wake locks (Documentation/ABI/testing/sysfs-class-power, sysfs-power). The battery is
// at 80 % and is not charging.
func (p *Phone) furnishPower() {
	p.t.Helper()
	const radio, wakelock = 1001, 3010 // android_filesystem_config.h, and rootdir/init.rc for the files' owners
	for _, name := range []string{"wake_lock", "wake_unlock"} {
		path := p.path("sys/power/" + name)
		if err := unix.Mkfifo(path, 0o660); err != nil {
			p.t.Fatal(err)
		}
		if err := errors.Join(os.Chown(path, radio, wakelock), os.Chmod(path, 0o660)); err != nil {
			p.t.Fatal(err)
		}
	}
	for file, text := range map[string]string{"power_supply/battery/type": "Battery", "power_supply/usb/type": "USB", "power_supply/usb/online": "0",
		"thermal/thermal_zone0/type": "battery", "thermal/thermal_zone0/temp": "31200"} {
		if err := os.MkdirAll(filepath.Dir(p.path("sys/"+file)), 0o755); err != nil {
			p.t.Fatal(err)
		}
		p.write("sys/"+file, text+"\n", 0o444)
	}
	p.SetBattery(80, "Discharging")
}

// SetBattery sets the battery's level, in percent, and its status: "Charging", "Discharging", "Not
// charging" or "Full".
func (p *Phone) SetBattery(percent int, status string) {
	p.t.Helper()
	p.write("sys/power_supply/battery/status", status+"\n", 0o644)
	p.write("sys/power_supply/battery/capacity", strconv.Itoa(percent)+"\n", 0o644)
}

// WakeLocks returns the sorted names of the held wake locks.
func (p *Phone) WakeLocks() []string { return strings.Fields(strings.Join(p.Calls("wake_locks"), " ")) }
