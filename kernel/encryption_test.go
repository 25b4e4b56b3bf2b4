package kernel

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/image/kconfig"
)

func TestCheckEncryption(t *testing.T) {
	if missing := CheckEncryption(kconfig.Config{"DM_CRYPT": "y", "CRYPTO_AES": "y", "CRYPTO_XTS": "y"}); len(missing) > 0 {
		t.Errorf("a kernel that has all: %v", missing)
	}
	missing := CheckEncryption(kconfig.Config{"DM_CRYPT": "m", "CRYPTO_AES": "y"})
	if len(missing) != 2 || !missing[0].Module || missing[1].Option != "CRYPTO_XTS" {
		t.Errorf("%v", missing)
	}
}
