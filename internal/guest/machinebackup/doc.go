// Package machinebackup saves and restores what a machine keeps: the databases of its PostgreSQL,
// and the data of its services that have a backup in the recipe.
//
// [Keeper] is PID 1's part. It relays the stream of package backup: PostgreSQL's parts come from
// and go to the steps of package cluster, those of services come from and go to their own programs
// or, for paths, to [Archive] and [Extract], which run in a process of their own, as the service's
// user and confined as the service is. A backup's tar is foreign data: process 1 does not look into
// it.
//
// What a restore brings lies in [guestspec.RestoreDir] until the stream has ended and was whole.
// Then the services stop, and it takes the places of what is there, by renames that are written
// down before: a machine that loses its power meanwhile ends them at its next start, see [Recover].
package machinebackup
