// Package pipeline runs stages: steps that turn inputs into files, are named
// by a key made of everything that decides their output, and run only when
// no earlier run left a result under that key.
//
// Three things live here. The Engine orders stages by what they need, runs
// them side by side as far as inputs and Jobs allow, and stops all of them at
// the first error. The Store keeps results: blobs by SHA-256 and, by key,
// action records that name blobs. Reporters show what happens, on a terminal,
// as lines, or as JSON.
//
// A stage's key covers its name, what its Key method adds, and the digests of
// its inputs. It does not cover the keys of its inputs: a stage that runs
// again and writes the same bytes as before causes nothing else to run.
//
// # The store on disk
//
//	blobs/sha256/ab/<hex>    contents, read-only files, named by their SHA-256
//	stamps/ab/<hex>          what stat(2) said about a blob when it was last hashed
//	actions/<key>.json       action records: key, fields, outputs, warnings
//	exports/<hex>            what stat(2) said about files copied out of the store
//	last/<scope>.json        keys and fields of a scope's last build
//	locks/                   flock(2) files: one per action being made and blob being fetched, and "store"
//	tmp/<random>/            one directory per running build, held by a flock
//
// A blob or record is written under tmp, synced, renamed into place, and its
// directory synced, so that a process killed at any point leaves at worst a
// directory under tmp, which the next build removes because nobody holds its
// lock. Blobs that are made here are complete before the record that names
// them exists.
//
// # When a blob is trusted
//
// Every use of a blob compares stat(2) with the blob's stamp: size, inode,
// mtime and ctime. Equal means that nothing wrote to the file since it was
// hashed (ctime cannot be set by a program), and the content is taken as
// verified. Anything else (a restored backup, a write by someone, a lost
// stamp) has the blob hashed again. A blob that fails is removed and reported
// as damaged, and the action that made it runs again. Decay below the file
// system, which leaves ctime alone, is found by Store.Verify, which hashes
// everything.
//
// # Remote caches
//
// A store can be connected to remotes, which keep records and blobs for many
// stores. A record that the store lacks is asked of them, and taken over,
// marked as theirs, before any of its blobs: a blob crosses the network when
// a stage opens it, or at the end if the build delivers it. So only records
// that are marked may name blobs that are not in the store. If such a blob
// cannot be had when it is needed, what made it runs after all, and then
// again whatever needed it.
//
// What comes from a remote is believed no more than the disk is: a blob has
// to have the digest that its record says, a record to be about the inputs
// that were asked for. A remote that fails is warned about once and left
// alone for the rest of the build.
//
// # Several processes
//
// A build holds "locks/store" shared for as long as it runs, and Prune holds
// it alone, so nothing that a build has seen disappears under it. An action
// that is being made is locked by its key: a second build that wants the same
// one waits and then finds it.
//
// The package knows nothing of what is built; it runs on Linux and other Unix
// systems whose file system has flock(2).
package pipeline
