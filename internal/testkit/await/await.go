// Package await waits for conditions with little processor time.
package await

import "time"

// A pause is a multiple of the duration of the last check, up to a maximum. A check may start
// processes or query an emulated machine, and frequent checks would use much of a processor.
const (
	share   = 4
	longest = 2 * time.Second
)

// Until checks a condition repeatedly, for at most limit, and reports whether it holds. It pauses
// between two checks, for at least pause.
func Until(limit, pause time.Duration, holds func() bool) bool {
	for deadline := time.Now().Add(limit); ; {
		begun := time.Now()
		if holds() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(max(pause, min(share*time.Since(begun), longest)))
	}
}
