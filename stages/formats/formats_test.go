package formats

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	if err := Check(Names()); err != nil {
		t.Error(err)
	}
	if err := Check(append(Names(), "iso")); err == nil || !strings.Contains(err.Error(), "must be one of module, simg, raw.zst, disk") {
		t.Errorf("an unknown format: %v", err)
	}
}
