//go:build linux && race

package guest

const raceEnabled = true
