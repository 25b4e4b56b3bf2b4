// Package cluster does for a PostgreSQL cluster what has to be done around the server's start: it
// makes the cluster once and never again ([Preparation]), makes roles and their databases ([Account])
// and sets their passwords ([SetPassword]).
//
// These run as steps of the service (package guestspec), in processes of their own: sov-init calls
// itself by the names postgres-prepare, postgres-account and postgres-role. [Examine] tells the
// guest's status how the server is.
package cluster
