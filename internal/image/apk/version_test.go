package apk

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func TestCompareVersions(t *testing.T) {
	// Each version is older than the next.
	order := strings.Fields(`0.9 1.0_alpha 1.0_alpha2 1.0_beta 1.0_pre1 1.0_rc1 1.0_rc1_p2 1.0 1.0-r1 1.0-r10 1.0~3fa9c1 1.0~3fa9c2-r1 1.0_cvs1 1.0_svn
		1.0_git20240101 1.0_hg1 1.0_p1 1.0_p1-r1 1.0_p2 1.0a 1.0b 1.0b2 1.05 1.0.1 1.1 1.9 1.10 2 10 20240101 99999999999999999999`)
	for i, a := range order {
		for j, b := range order {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := CompareVersions(a, b); got != want {
				t.Errorf("CompareVersions(%s, %s) = %d, want %d", a, b, got, want)
			}
		}
		if !ValidVersion(a) {
			t.Errorf("ValidVersion(%s) = false", a)
		}
	}
	for _, v := range []string{"1.0_foo", "1.0-1", "1bb", "1.0 ", "1.0~", "1.0~xyz", "1:2"} {
		if ValidVersion(v) {
			t.Errorf("ValidVersion(%q) = true", v)
		}
	}
}

func TestMatchVersion(t *testing.T) {
	for _, tc := range []struct {
		version, dep string
		want         bool
	}{
		{"1.2.3", "x~1.2", true}, {"1.2.3", "x~1.20", false}, {"1.2", "x~1.2.3", true}, {"1.20", "x~1.2", false},
		{"1.2-r5", "x=1.2", false}, {"1.2-r5", "x~1.2-r5", true}, {"1.2-r5", "x~=1.2", true}, {"1.2-r5", "x>1.2", true},
		{"1.2", "x<=1.2", true}, {"1.2", "x<1.2", false}, {"1.3", "x>~1.2", true}, {"1.2.1", "x>~1.2", true}, {"1.1", "x>~1.2", false},
	} {
		d, err := ParseDep(tc.dep)
		if err != nil {
			t.Fatal(err)
		}
		if got := MatchVersion(tc.version, d.Op, d.Version); got != tc.want {
			t.Errorf("%s meets %s: %v, want %v", tc.version, tc.dep, got, tc.want)
		}
	}
}

// randomVersion returns versions that often agree in their first parts. Hashes ("~") are left out:
// apk 2.14 does not support them.
func randomVersion(r *rand.Rand) string {
	pieces := strings.Fields("1 0 2 10 01 00 .0 .1 .10 .01 .2 a b _alpha _rc _rc1 _p _p1 _git2 -r0 -r1 -r10 . _ -r x")
	v := pieces[r.IntN(4)]
	for range r.IntN(4) {
		v += pieces[r.IntN(len(pieces))]
	}
	return v
}

func TestVersionsAgainstAPK(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(3, 4))
	sign := map[string]int{"<": -1, "=": 0, ">": 1}
	compared := 0
	for compared < 300 {
		a, b := randomVersion(r), randomVersion(r)
		if !ValidVersion(a) || !ValidVersion(b) {
			continue
		}
		compared++
		out, err := o.apk("version", "-t", a, b)
		if err != nil {
			t.Fatalf("apk version -t %s %s: %v: %s", a, b, err, out)
		}
		if got, want := CompareVersions(a, b), sign[strings.TrimSpace(out)]; got != want {
			t.Errorf("CompareVersions(%s, %s) = %d, apk says %d", a, b, got, want)
		}
	}
	for range 300 {
		v := randomVersion(r)
		_, err := o.apk("version", "-q", "-c", v)
		if got, want := ValidVersion(v), err == nil; got != want {
			t.Errorf("ValidVersion(%s) = %v, apk says %v", v, got, want)
		}
	}
}

func FuzzVersion(f *testing.F) {
	for _, v := range strings.Fields("1.2.3-r4 1.0_rc1 0.00~abc-r1 1b2_p 1.. -r 999999999999999999999 ~") {
		f.Add(v, "1.0")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		defer costtest.Text.Watch(t, len(a)+len(b))()
		if CompareVersions(a, b) != -CompareVersions(b, a) {
			t.Errorf("CompareVersions(%q, %q) is not the opposite of the other way round", a, b)
		}
		MatchVersion(a, OpFuzzy|OpEqual, b)
		ValidVersion(a)
	})
}
