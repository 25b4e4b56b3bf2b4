package release

import (
	"strings"
	"testing"
)

func TestIs(t *testing.T) {
	for version, want := range map[string]bool{
		"v1.2.0": true, "v0.0.1": true, "v10.20.30": true, "v1.2.0-rc.1": true, "v1.2.0-beta": true,
		"": false, "development": false, "e4da23f": false, "1.2.0": false, "v1.2": false, "v1": false, "v01.2.0": false,
		"v1.2.0+build": false, "v1.2.0-5-gabcdef0": false, "v1.2.0-rc.1-5-gabcdef0": false, "v1.2.0-dirty": false,
		"v0.0.0-20260102030405-abcdef012345": false, "v1.2.1-0.20260102030405-abcdef012345": false,
		"v1.2.0-dev": false, "v1.2.0-dev-gabcdef012345": false, "v1.2.0-dev-gabcdef012345-dirty": false, "v1.2.0-develop": true,
		"v1.2.0-rc.1.0.20260102030405-abcdef012345": false, "v1.2.0-5-gabcdef0-dirty": false, "v1.2.0\x1b": false, "v1.2.0 -X main.x=y": false, "v1.2.0\n": false,
		"v1.2.0-" + strings.Repeat("a", maxLength): false,
	} {
		if Is(version) != want {
			t.Errorf("%q: %v", version, !want)
		}
	}
}

func TestName(t *testing.T) {
	for version, want := range map[string]string{
		"v1.2.0": "v1.2.0", "v1.2.0-rc.1": "v1.2.0-rc.1", "development": "development", "abcdef012345": "abcdef012345",
		"v1.2.0-5-gabcdef012345": "abcdef012345", "v1.2.0-rc.1-5-gabcdef012345": "abcdef012345", "v1.2.0-gabcdef012345": "v1.2.0-gabcdef012345",
		"v0.0.0-20260102030405-abcdef012345": "abcdef012345", "v1.2.1-0.20260102030405-abcdef012345": "abcdef012345",
		"v1.2.0-rc.1.0.20260102030405-abcdef012345": "abcdef012345",
		"v1.2.0-dev-gabcdef012345":                  "abcdef012345", "v1.2.0-dev-gabcdef012345-dirty": "abcdef012345-dirty", "v1.2.0-dev": "v1.2.0-dev",
		"v1.2.0-dirty": "v1.2.0-dirty", "abcdef012345-dirty": "abcdef012345-dirty", "v1.2.0-5-gabcdef012345-dirty": "abcdef012345-dirty",
	} {
		if got := Name(version); got != want {
			t.Errorf("%s is called %s, want %s", version, got, want)
		}
	}
}

func TestNewer(t *testing.T) {
	order := []string{"v0.9.9", "v1.0.0-beta", "v1.0.0-rc.1", "v1.0.0-rc.2", "v1.0.0-rc.10", "v1.0.0", "v1.0.1", "v1.2.0", "v1.10.0", "v2.0.0"}
	for i, a := range order {
		for j, b := range order {
			if got := Newer(a, b); got != (i > j) {
				t.Errorf("%s newer than %s: %v", a, b, got)
			}
		}
		for _, other := range []string{"", "development", "v0.1.0-5-gabcdef0", "v9.0.0-dirty"} {
			if Newer(a, other) || Newer(other, a) {
				t.Errorf("%s and %q are in an order", a, other)
			}
		}
	}
}
