//go:build linux

package boot

import (
	"bufio"
	"encoding/binary"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

// stopSignals ask an init to stop: SIGINT is what the kernel sends for Ctrl-Alt-Del, SIGPWR what
// some hypervisors send, SIGUSR1 and SIGUSR2 are busybox's halt and poweroff, SIGTERM its reboot.
var stopSignals = []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGPWR, unix.SIGUSR1, unix.SIGUSR2}

// harmlessSignals would end a Go program, and with PID 1 the machine. They are caught and not
// ignored, because children inherit ignored signals.
var harmlessSignals = []os.Signal{unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE, unix.SIGALRM, unix.SIGABRT, unix.SIGTRAP, unix.SIGSYS}

// watchSignals converts stopSignals to requests and discards other signals.
func watchSignals(spawn spawn, request func(reason string)) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, stopSignals...)
	signal.Notify(make(chan os.Signal, 1), harmlessSignals...)
	spawn("signals", func() {
		for s := range signals {
			request(unix.SignalName(s.(unix.Signal)))
		}
	})
	// Without this Ctrl-Alt-Del reboots at once. A PID namespace has no such key and refuses.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF)
}

// Values in input events (include/uapi/linux/input-event-codes.h).
const (
	eventKey = 1   // EV_KEY
	keyPower = 116 // KEY_POWER
	pressed  = 1
)

// eventSize is that of struct input_event: a struct timeval of two longs, then 2, 2 and 4 bytes.
const eventSize = 2*int(unsafe.Sizeof(uintptr(0))) + 8

// watchPowerButton converts a press of any power button to a request. It returns the number of
// watched input devices.
func watchPowerButton(spawn spawn, request func(reason string)) int {
	names, _ := filepath.Glob("/dev/input/event*") // the pattern is sound
	watched := 0
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		watched++
		spawn("power button "+name, func() {
			defer f.Close()
			readEvents(f, func(kind, code uint16, value int32) {
				if kind == eventKey && code == keyPower && value == pressed {
					request("power button")
				}
			})
		})
	}
	return watched
}

// watchConsole reads requests from the guest's second console, which the host can use if the
// network does not work. It does nothing if the guest does not have a second console.
func watchConsole(spawn spawn, request func(reason string)) {
	f, err := os.OpenFile(guestapi.ConsoleDevice, os.O_RDONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return
	}
	spawn("console", func() {
		defer f.Close()
		readRequests(f, request)
	})
}

// readRequests reads lines until the end of r. It ignores lines that are not requests.
func readRequests(r io.Reader, request func(reason string)) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if strings.TrimSpace(lines.Text()) == guestapi.ConsoleShutdown {
			request("console")
		}
	}
}

// readEvents calls fn for each event of r until r ends.
func readEvents(r io.Reader, fn func(kind, code uint16, value int32)) {
	event := make([]byte, eventSize)
	for {
		if _, err := io.ReadFull(r, event); err != nil {
			return
		}
		rest := event[eventSize-8:]
		fn(binary.NativeEndian.Uint16(rest), binary.NativeEndian.Uint16(rest[2:]), int32(binary.NativeEndian.Uint32(rest[4:])))
	}
}
