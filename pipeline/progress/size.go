package progress

import (
	"fmt"
	"time"
)

// FormatSize formats a number of bytes with a decimal unit (powers of 1000).
func FormatSize(n int64) string { return formatSize(float64(n)) }

func formatSize(n float64) string {
	if n < 999.5 {
		return fmt.Sprintf("%.0f B", n)
	}
	for _, unit := range []string{"kB", "MB", "GB"} {
		n /= 1000
		if n < 99.95 {
			return fmt.Sprintf("%.1f %s", n, unit)
		}
		if n < 999.5 {
			return fmt.Sprintf("%.0f %s", n, unit)
		}
	}
	return fmt.Sprintf("%.1f TB", n/1000)
}

// durationText formats a duration: 0.31s, 12.3s, 3m05s.
func durationText(d time.Duration) string {
	switch s := d.Seconds(); {
	case s < 9.995:
		return fmt.Sprintf("%.2fs", s)
	case s < 59.95:
		return fmt.Sprintf("%.1fs", s)
	}
	d = d.Round(time.Second)
	if d < time.Hour {
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
}

// clockText formats a running time in whole seconds: 4s, 3m05s.
func clockText(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return durationText(d.Truncate(time.Second))
}
