package phonetest

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
)

// TestCover checks that the cover has all pairs of values that a phone can have, and at most a
// tenth of all phones.
func TestCover(t *testing.T) {
	makes := Cover()
	all := 1
	for _, n := range values() {
		all *= n
	}
	if len(makes) > all/10 {
		t.Errorf("%d phones of %d", len(makes), all)
	}
	t.Logf("%d phones of %d", len(makes), all)
	met := map[[2]string]bool{}
	for _, m := range makes {
		if m.Release == crosvmcli.Android13 && m.Hypervisor != androidtest.KVM {
			t.Errorf("%s does not exist", m)
		}
		met[[2]string{string(m.Release), string(m.Hypervisor)}] = true
		met[[2]string{string(m.Release), string(m.Superuser)}] = true
		met[[2]string{string(m.Release), m.Scene.Name}] = true
		met[[2]string{string(m.Superuser), m.Scene.Name}] = true
		met[[2]string{string(m.Hypervisor), string(m.Superuser)}] = true
		met[[2]string{string(m.Hypervisor), m.Scene.Name}] = true
	}
	sizes := values()
	releases, hypers, roots, scenes := sizes[0], sizes[1], sizes[2], sizes[4]
	// Android 13 has one hypervisor.
	if want := (releases-1)*hypers + 1 + releases*roots + releases*scenes + roots*scenes + hypers*roots + hypers*scenes; len(met) != want {
		t.Errorf("%d pairs, want %d", len(met), want)
	}
}
