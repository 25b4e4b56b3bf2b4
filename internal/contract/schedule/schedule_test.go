package schedule

import (
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func TestNext(t *testing.T) {
	for _, tt := range []struct{ text, after, want string }{
		{"6h", "2026-11-27T01:02:03Z", "2026-11-27T07:02:03Z"},
		{"* * * * *", "2026-11-27T01:02:00Z", "2026-11-27T01:03:00Z"},
		{"*/15 * * * *", "2026-11-27T01:59:59Z", "2026-11-27T02:00:00Z"},
		{"30 3 * * *", "2026-12-31T03:30:00Z", "2027-01-01T03:30:00Z"},
		{"0 9-17/4,20 * * *", "2026-11-27T17:00:00Z", "2026-11-27T20:00:00Z"},
		{"0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"0 0 * * 7", "2026-11-27T00:00:00Z", "2026-11-29T00:00:00Z"}, // a Sunday
		{"0 0 * * 0", "2026-11-27T00:00:00Z", "2026-11-29T00:00:00Z"},
		{"0 0 1 * 1", "2026-11-27T00:00:00Z", "2026-11-30T00:00:00Z"}, // the 1st, or a Monday
		{"0 0 1 * *", "2026-11-27T00:00:00Z", "2026-12-01T00:00:00Z"},
		{"0 0 */2 * 1", "2026-11-27T00:00:00Z", "2026-12-07T00:00:00Z"}, // an odd day that is a Monday
		{"0 0 31 4,12 *", "2026-11-27T00:00:00Z", "2026-12-31T00:00:00Z"},
	} {
		s, err := Parse(tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		after, err := time.Parse(time.RFC3339, tt.after)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Next(after).Format(time.RFC3339); got != tt.want {
			t.Errorf("%s after %s: %s, want %s", tt.text, tt.after, got, tt.want)
		}
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"": "0 fields", "30s": "interval", "-6h": "interval", "9999h": "interval", "daily": "interval", "@daily": "interval",
		"* * * *": "4 fields", "* * * * * *": "6 fields", "60 * * * *": "minute: \"60\" must be a number from 0 to 59",
		"* * 0 * *": "day of the month", "* * * 13 *": "month", "* * * JAN *": "month", "* * * * 8": "day of the week",
		"5-1 * * * *": "ends before", "1/5 * * * *": "step follows", "*/0 * * * *": "step", "+1 * * * *": "minute",
		"1,,2 * * * *": "minute", "0 0 30 2 *": "never matches", "1-2-3 * * * *": "minute",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// FuzzParse: the times of an accepted schedule are in order, and at the minutes that a plain search
// finds.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"6h", "*/15 * * * *", "0 9-17/4,20 1 * 1", "0 0 29 2 *", "59 23 31 12 7"} {
		f.Add(text, int64(1_790_000_000))
	}
	f.Fuzz(func(t *testing.T, text string, at int64) {
		defer costtest.Text.Watch(t, len(text))()
		s, err := Parse(text)
		if err != nil {
			return
		}
		after := time.Unix(at%(1<<33), 0)
		next := s.Next(after)
		if !next.After(after) {
			t.Fatalf("%q after %s: %s", text, after, next)
		}
		if s.Interval() {
			return
		}
		for m, n := after.UTC().Truncate(time.Minute).Add(time.Minute), 0; m.Before(next) && n < 2000; m, n = m.Add(time.Minute), n+1 {
			if s.onDay(m) && s.fields[month]&(1<<int(m.Month())) != 0 && s.fields[hour]&(1<<m.Hour()) != 0 && s.fields[minute]&(1<<m.Minute()) != 0 {
				t.Fatalf("%q after %s: %s, but %s comes before", text, after, next, m)
			}
		}
	})
}
