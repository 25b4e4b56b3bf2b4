package kernel

import "github.com/sovereign-sql/sov/internal/image/kconfig"

// encryption lists the options that a guest with an encrypted data disk cannot do without, besides Requirements.
var encryption = []Requirement{
	{"DM_CRYPT", "", "The encrypted data disk could not be opened."},
	{"CRYPTO_AES", "", "The data disk is encrypted with AES, which the kernel would not know."},
	{"CRYPTO_XTS", "", "The data disk is encrypted with AES in XTS, which the kernel would not know."},
}

// CheckEncryption returns what a kernel with that configuration lacks for a guest with an encrypted data disk.
func CheckEncryption(c kconfig.Config) []Missing {
	var out []Missing
	for _, r := range encryption {
		if v := c[r.Option]; v != "y" {
			out = append(out, Missing{r, v == "m"})
		}
	}
	return out
}
