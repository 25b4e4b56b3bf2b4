// Package await waits for conditions, and leaves the computer to what it waits for.
package await

import "time"

// Pauses between two looks are so many times as long as a look took, up to the longest: a look may
// start processes or ask an emulated machine, and would take half of a processor otherwise.
const (
	share   = 4
	longest = 400 * time.Millisecond
)

// Until looks again and again whether a condition holds, for at most limit, and reports whether it
// does. It pauses between two looks, for at least pause.
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
