package build

import (
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
)

func TestTemplate(t *testing.T) {
	text, err := Template{Name: "shop", Memory: "2GiB", Data: "16GiB", Packages: []string{"postgresql-pgvector"}}.Recipe()
	if err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Parse("shop.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != "shop" || r.VM.Memory != 2<<30 || r.Tailscale.Enabled || r.Network.TAP != "vm_shop" || r.Network.Hostname != "sovereign-shop" ||
		!strings.Contains(string(text), "    - postgresql-pgvector\n") || !r.Network.AddressUnset {
		t.Errorf("%+v", r)
	}
	long := strings.Repeat("m", 31)
	text, err = Template{Name: long, Tailscale: true}.Recipe()
	if err != nil || len(long) == 0 || !strings.Contains(string(text), "\ntailscale:\n  enabled: true\n") {
		t.Errorf("%v:\n%s", err, text)
	}
	for name, wrong := range map[string]Template{
		"name": {Name: "Shop"}, "memory": {Name: "shop", Memory: "a lot"}, "a line of its own": {Name: "shop", Data: "8GiB\nname: other"},
		"a package with a newline": {Name: "shop", Packages: []string{"a\n    - b: c"}},
	} {
		if _, err := wrong.Recipe(); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}
