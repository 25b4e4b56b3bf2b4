package backup

import (
	"fmt"
	"strings"
)

// Upgraded is the result of an upgrade of PostgreSQL's cluster, or of a later operation on it.
type Upgraded struct {
	From     string   `json:"from,omitempty"`      // major version
	To       string   `json:"to,omitempty"`        //
	Kept     string   `json:"kept,omitempty"`      // directory of the old cluster
	KeptSize int64    `json:"kept_size,omitempty"` // bytes
	Removed  []string `json:"removed,omitempty"`   // directories of old clusters that were removed
	// Checksums says that the cluster's pages have checksums now.
	Checksums bool `json:"checksums,omitempty"`
}

// String describes the result in a sentence.
func (u *Upgraded) String() string {
	switch {
	case u.To != "":
		return fmt.Sprintf("upgraded from PostgreSQL %s to %s; the databases of %[1]s are kept in %[3]s (%[4]d MiB)", u.From, u.To, u.Kept, u.KeptSize>>20)
	case u.Checksums:
		return "the pages of the databases have checksums now"
	case len(u.Removed) == 0:
		return "no databases of an older version are kept"
	}
	return "removed " + strings.Join(u.Removed, ", ")
}
