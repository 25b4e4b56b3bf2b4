package cache

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// Limits are the limits of pruning, as the user writes them; empty ones are ignored.
type Limits struct {
	UnusedFor string // remove what was not used for this long
	OlderThan string // remove what was made longer ago than this
	MaxSize   string // remove until no more than this is left
}

// Set sets o's limits. Ages are relative to now.
func (l Limits) Set(o *store.PruneOptions, now time.Time) error {
	for _, limit := range []struct {
		flag, text string
		since      *time.Time
	}{{"unused-for", l.UnusedFor, &o.UnusedSince}, {"older-than", l.OlderThan, &o.MadeBefore}} {
		if limit.text == "" {
			continue
		}
		age, err := ParseAge(limit.text)
		if err != nil {
			return fmt.Errorf("--%s %s: %w", limit.flag, limit.text, err)
		}
		*limit.since = now.Add(-age)
	}
	if l.MaxSize == "" {
		return nil
	}
	var err error
	if o.MaxDisk, err = ParseSize(l.MaxSize); err != nil {
		return fmt.Errorf("--max-size %s: %w", l.MaxSize, err)
	}
	return nil
}

// ParseAge reads a duration, with days ("30d") beside the units of time.ParseDuration.
func ParseAge(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, errors.New("want a number of days such as 30d")
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	age, err := time.ParseDuration(text)
	if err != nil || age < 0 {
		return 0, errors.New("want a time such as 12h or 30d")
	}
	return age, nil
}

// sizeUnits are the factors of ParseSize.
var sizeUnits = map[string]int64{
	"": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

// ParseSize reads a number of bytes with a decimal or binary unit: 512MB, 10GiB.
func ParseSize(text string) (int64, error) {
	number := strings.TrimRight(text, "kKMGTiB")
	unit, known := sizeUnits[text[len(number):]]
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !known || n <= 0 || n > math.MaxInt64/unit {
		return 0, errors.New("want a size such as 512MB or 10GiB")
	}
	return n * unit, nil
}
