package androidtest

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSnapshotOrder: hardware addresses, which are others after a restart, do not determine the
// order of a snapshot's lines, and rules with the same priority keep theirs.
func TestSnapshotOrder(t *testing.T) {
	t.Parallel()
	p := New(t, Options{InMemory: true})
	hardware := regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`)
	with := func(address string) string {
		p.Shell("ip link set wlan0 address " + address)
		return hardware.ReplaceAllString(p.Snapshot(), "")
	}
	if low, high := with("02:00:00:00:00:01"), with("fe:00:00:00:00:01"); low != high {
		t.Errorf("another hardware address: %q", Differences(low, high))
	}
	p.Shell("ip rule add pref 500 table 7; ip rule add pref 500 table 5")
	text := p.Snapshot()
	if first, second := strings.Index(text, "500:\tfrom all lookup 7"), strings.Index(text, "500:\tfrom all lookup 5"); first < 0 || second < first {
		t.Errorf("the rules of one priority:\n%s", text)
	}
}

func TestDifferences(t *testing.T) {
	for _, c := range []struct {
		before, after string
		want          []string
	}{
		{"a\nb", "a\nb", nil},
		{"a\nb", "a\nc", []string{"gone: b", "new: c"}},
		{"a\nb\nc", "a\nc\nb", []string{"moved: b", "in its place: c"}},
	} {
		if got := Differences(c.before, c.after); !slices.Equal(got, c.want) {
			t.Errorf("%q and %q: %q, want %q", c.before, c.after, got, c.want)
		}
	}
}
