// Package machinebackup backs up and restores a machine's data: the databases of its PostgreSQL,
// and the data of the services that have a backup in the recipe.
//
// [Keeper] is PID 1's part. It relays the stream of package backup. The steps of package cluster
// write and read PostgreSQL's parts. A service's own programs write and read its parts or, for
// paths, [Archive] and [Extract] do, in a separate process with the service's user and confinement.
// A backup's tar is untrusted data, which PID 1 does not parse.
//
// Restored data stays in [guestspec.RestoreDir] until the whole stream was read and verified. Then
// the services stop, and renames swap the data in. The list of renames is written to disk before;
// after a power cut the next start completes them, see [Recover].
package machinebackup
