package backup

// Upgraded is what an upgrade of PostgreSQL's cluster did, or what was done with one that was upgraded before.
type Upgraded struct {
	From     string   `json:"from,omitempty"`      // major version
	To       string   `json:"to,omitempty"`        //
	Kept     string   `json:"kept,omitempty"`      // directory of the old cluster
	KeptSize int64    `json:"kept_size,omitempty"` // bytes
	Removed  []string `json:"removed,omitempty"`   // directories of old clusters that were removed
	// Checksums says that the cluster's pages have checksums now.
	Checksums bool `json:"checksums,omitempty"`
}
