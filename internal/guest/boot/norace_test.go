//go:build linux && !race

package boot

const raceEnabled = false
