package await

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestUntil(t *testing.T) {
	for name, tt := range map[string]struct {
		look, limit time.Duration // the duration of a check, and the limit
		after       int           // the number of the first check at which the condition holds
		want        bool
		took        time.Duration
	}{
		"at once":        {0, time.Second, 1, true, 0},
		"quick looks":    {0, time.Second, 3, true, 40 * time.Millisecond},
		"slower looks":   {50 * time.Millisecond, time.Second, 3, true, 550 * time.Millisecond},
		"slow looks":     {time.Second, time.Minute, 3, true, 7 * time.Second},
		"never":          {0, time.Second, 1000, false, 1020 * time.Millisecond},
		"no time at all": {0, -1, 2, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, looks := time.Now(), 0
				got := Until(tt.limit, 20*time.Millisecond, func() bool {
					looks++
					time.Sleep(tt.look)
					return looks >= tt.after
				})
				if took := time.Since(start); got != tt.want || took != tt.took {
					t.Errorf("%t after %v and %d looks, want %t after %v", got, took, looks, tt.want, tt.took)
				}
			})
		})
	}
}
