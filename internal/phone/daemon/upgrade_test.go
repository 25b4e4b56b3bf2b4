package daemon

import (
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

// TestReadable: the versions of a machine that can be rolled back to after an upgrade.
func TestReadable(t *testing.T) {
	for name, tt := range map[string]struct {
		server string
		other  []int
		want   bool
	}{
		"as before":         {"15.18", []int{15}, true},
		"upgraded":          {"17.6", []int{15}, false},
		"the one with both": {"17.6", []int{15, 17}, true},
		"nothing is known":  {"", []int{15}, true},
		"an older sov's":    {"17.6", nil, true},
	} {
		a := &installed.Artifact{Manifest: &manifest.Manifest{Version: "2", Postgres: tt.other}}
		err := readable(&guestapi.Postgres{Version: tt.server}, a)
		if (err == nil) != tt.want || err != nil && !strings.Contains(err.Error(), "belong to PostgreSQL 17, and version 2 in the other slot has 15") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
