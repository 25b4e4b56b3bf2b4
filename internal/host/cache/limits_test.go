package cache

import (
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/pipeline/store"
)

func TestParseSizeAndAge(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "512KiB": 512 << 10, "10GiB": 10 << 30, "10GB": 10e9, "": 0, "10G": 0, "GiB": 0, "-1": 0, "1.5G": 0, "9999999999TiB": 0, "10XB": 0} {
		if got, err := ParseSize(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("size %q: %d, %v; want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]time.Duration{"12h": 12 * time.Hour, "30d": 720 * time.Hour, "d": -1, "-1h": -1, "x": -1} {
		if got, err := ParseAge(text); err == nil && got != want || (err == nil) != (want >= 0) {
			t.Errorf("age %q: %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestLimits(t *testing.T) {
	now := time.Unix(1e9, 0)
	var o store.PruneOptions
	if err := (Limits{UnusedFor: "1h", MaxSize: "1KiB"}).Set(&o, now); err != nil || !o.UnusedSince.Equal(now.Add(-time.Hour)) || o.MaxDisk != 1024 || !o.MadeBefore.IsZero() {
		t.Errorf("%+v, %v", o, err)
	}
	if err := (Limits{OlderThan: "long"}).Set(&o, now); err == nil || !strings.HasPrefix(err.Error(), "--older-than long: ") {
		t.Error(err)
	}
}
