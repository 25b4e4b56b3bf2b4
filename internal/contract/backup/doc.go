// Package backup is how the databases of a machine and the data of its services travel and are
// kept.
//
// On the way from or to the guest they are a stream of frames ([Writer], [Reader]): parts, and an
// end with the SHA-256 of all that came before. A stream without its end, or that is not as it was
// sent, is an error at the reader, whatever broke it.
//
// On disk they are a ZIP archive ([Create], [Open]) of files that PostgreSQL's own programs read:
// roles.sql for psql, and a file for each database in pg_dump's custom format for pg_restore. Below
// services/ lies what services have: NAME.tar for tar, and NAME.stream for the service's own
// program. backup.json, its last entry, names them with their digests. Nothing in it is compressed
// by ZIP: pg_dump does that. The archive may lie in an encrypted file, see [Layer].
package backup

// A Part is a file of a backup.
type Part struct {
	Kind     Kind      `json:"kind"`
	Database *Database `json:"database,omitempty"` // where Kind is KindDatabase
	Service  *Service  `json:"service,omitempty"`  // where Kind is KindPaths or KindStream
}

// A Kind says what a part holds.
type Kind string

// Kinds of parts. Roles come first, databases follow, then services.
const (
	KindRoles    Kind = "roles"    // SQL, as pg_dumpall --roles-only writes it
	KindDatabase Kind = "database" // pg_dump's custom format
	KindPaths    Kind = "paths"    // files and directories of a service, a tar of the format pax
	KindStream   Kind = "stream"   // what a service's own program wrote
)

// A Service says whose data a part is.
type Service struct {
	Name string `json:"name"`
	// Paths are absolute, of KindPaths alone. Names in the tar are these and those below them,
	// without the first slash. A path that the tar lacks did not exist.
	Paths []string `json:"paths,omitempty"`
}

// A Database is what pg_dump leaves out of a database: how it is made, and what belongs to its
// name.
type Database struct {
	Name      string    `json:"name"`
	Owner     string    `json:"owner"`
	Size      int64     `json:"size"` // bytes on the server's disk
	Encoding  string    `json:"encoding"`
	Provider  string    `json:"provider"` // of its collation: pg_database.datlocprovider
	Collate   string    `json:"collate"`
	CType     string    `json:"ctype"`
	Locale    string    `json:"locale,omitempty"` // of a provider other than the C library
	Rules     string    `json:"rules,omitempty"`  // of ICU
	Limit     int       `json:"limit"`            // of connections; -1: none
	Comment   string    `json:"comment,omitempty"`
	Settings  []Setting `json:"settings,omitempty"`
	Privilege []Grant   `json:"privileges,omitempty"` // beyond the defaults, or in their place
	Closed    bool      `json:"closed,omitempty"`     // the defaults of PUBLIC are taken away
}

// A Setting is one of ALTER DATABASE SET or ALTER ROLE IN DATABASE SET.
type Setting struct {
	Role string `json:"role,omitempty"` // empty: everybody
	Text string `json:"text"`           // NAME=VALUE, as pg_db_role_setting has it
}

// A Grant is a privilege on a database.
type Grant struct {
	Role      string `json:"role,omitempty"` // empty: PUBLIC
	Privilege string `json:"privilege"`      // such as CONNECT
	Grantable bool   `json:"grantable,omitempty"`
}

// Sum is the length and digest of a file in an archive.
type Sum struct {
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // hexadecimal
}

// A Restoration is what a restore did.
type Restoration struct {
	Databases []string `json:"databases"`          // that are as in the backup now
	Roles     []string `json:"roles"`              // that were made; those that were there stay as they were
	Services  []string `json:"services,omitempty"` // whose data are as in the backup now
	Warnings  []string `json:"warnings,omitempty"`
}

// An Event is what the guest says, a line of JSON each, while it restores. The last one has Done or
// Fault.
type Event struct {
	Progress string       `json:"progress,omitempty"`
	Done     *Restoration `json:"done,omitempty"`
	// Upgraded is the end of an upgrade in place of Done.
	Upgraded *Upgraded `json:"upgraded,omitempty"`
	Fault    string    `json:"fault,omitempty"` // why nothing was changed
}
