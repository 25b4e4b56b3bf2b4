// Package store keeps results on disk: blobs by SHA-256 and, by key, records that name blobs. It
// stores, checks, locks, lists, prunes, verifies and exports them. It does not interpret keys, and
// works on this computer only: package remote adds remote caches.
//
// # The store on disk
//
//	blobs/sha256/ab/<hex>    contents, read-only files, named by their SHA-256
//	stamps/ab/<hex>          what stat(2) said about a blob when it was last hashed
//	actions/<key>.json       records: key, fields, outputs, warnings
//	exports/<hex>            what stat(2) said about files copied out of the store
//	last/<scope>.json        keys and fields of a scope's last build
//	locks/                   flock(2) files: one per result being made and blob being fetched, and "store"
//	tmp/                     files and directories that are being written, each held by a flock
//
// A blob or record is written under tmp, synced, renamed into place, and its directory synced. A
// process that is killed at any point leaves at most a file or directory under tmp, which the next
// build removes because no process holds its lock. Blobs that are made on this computer are
// complete before the record that names them exists.
//
// # When a blob is trusted
//
// Every use of a blob compares stat(2) with the blob's stamp: size, inode, mtime and ctime. Equal
// means that nothing wrote to the file since it was hashed (a program cannot set ctime), and the
// content is taken as verified. Anything else (a restored backup, a write by another program, a
// lost stamp, one that another user can write) has the blob hashed again. A blob that fails is
// removed and reported as damaged. Verify, which hashes everything, finds damage below the file
// system, which does not change ctime.
//
// A store whose directories another user can write is not opened: such a user could replace the
// blobs of a record.
//
// # Blobs in remote caches
//
// A record from a remote cache carries the name of that cache, and only such a record may name
// blobs that are not in the store. Get returns such a record. After Open finds that a blob is
// missing, Get does not return the record again until the store has the blob.
//
// # Several processes
//
// A build holds a shared lock on "locks/store" while it runs, and Prune holds an exclusive one, so
// that nothing a build uses is removed. A result that is being made is locked by its key: a second
// build that needs the same result waits and then finds it.
//
// The package runs on Linux and other Unix systems whose file system has flock(2).
package store
