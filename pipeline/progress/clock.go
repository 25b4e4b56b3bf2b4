package progress

import "time"

// A Clock gives the time.
type Clock interface {
	Now() time.Time
	// Ticker sends the time on c every d until stop is called.
	Ticker(d time.Duration) (c <-chan time.Time, stop func())
}

// SystemClock is the computer's clock.
type SystemClock struct{}

// Now returns time.Now().
func (SystemClock) Now() time.Time { return time.Now() }

// Ticker wraps time.NewTicker.
func (SystemClock) Ticker(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTicker(d)
	return t.C, t.Stop
}
