// Package backup is the format of backups of a machine's databases and services: the stream and the
// file.
//
// Between guest and host a backup is a stream of frames ([Writer], [Reader]): parts, and an end
// with the SHA-256 of everything before. The reader returns an error for a truncated or changed
// stream.
//
// On disk a backup is a ZIP archive ([Create], [Open]) of files that PostgreSQL's programs read:
// roles.sql for psql, and a file for each database in pg_dump's custom format for pg_restore. The
// data of services is below services/: NAME.tar for tar, and NAME.stream for the service's own
// program. backup.json, the last entry, lists them with their digests. ZIP does not compress them:
// pg_dump does. The file may be encrypted, see [Layer].
package backup

// A Part is a file of a backup.
type Part struct {
	Kind     Kind      `json:"kind"`
	Database *Database `json:"database,omitempty"` // where Kind is KindDatabase
	Service  *Service  `json:"service,omitempty"`  // where Kind is KindPaths or KindStream
}

// A Kind is the kind of a part.
type Kind string

// Kinds of parts. Roles come first, databases follow, then services.
const (
	KindRoles    Kind = "roles"    // SQL, as pg_dumpall --roles-only writes it
	KindDatabase Kind = "database" // pg_dump's custom format
	KindPaths    Kind = "paths"    // files and directories of a service, a tar of the format pax
	KindStream   Kind = "stream"   // the output of a service's own program
)

// A Service identifies the service of a part.
type Service struct {
	Name string `json:"name"`
	// Paths are absolute, only for KindPaths. The tar contains these paths and those below them,
	// without the leading slash. A path that the tar lacks did not exist.
	Paths []string `json:"paths,omitempty"`
}

// A Database has the properties of a database that pg_dump leaves out: those of CREATE DATABASE and
// of the database's name.
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
	Privilege []Grant   `json:"privileges,omitempty"` // in addition to the defaults, or instead of them
	Closed    bool      `json:"closed,omitempty"`     // the default privileges of PUBLIC are revoked
}

// A Setting is one of ALTER DATABASE SET or ALTER ROLE IN DATABASE SET.
type Setting struct {
	Role string `json:"role,omitempty"` // empty: all roles
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

// A Restoration is the result of a restore.
type Restoration struct {
	Databases []string `json:"databases"`          // restored databases
	Roles     []string `json:"roles"`              // created roles; existing ones are not changed
	Services  []string `json:"services,omitempty"` // services with restored data
	Warnings  []string `json:"warnings,omitempty"`
}

// An Event is a message of the guest during a restore, a line of JSON. The last one has Done or
// Fault.
type Event struct {
	Progress string       `json:"progress,omitempty"`
	Done     *Restoration `json:"done,omitempty"`
	// Upgraded is the result of an upgrade, instead of Done.
	Upgraded *Upgraded `json:"upgraded,omitempty"`
	Fault    string    `json:"fault,omitempty"` // why nothing was changed
}
