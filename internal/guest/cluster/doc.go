// Package cluster does for a PostgreSQL cluster what has to be done around the server's start: it
// makes the cluster once and never again ([Preparation]), and sets a role's password ([SetPassword]).
//
// Both run as steps of the service (package guestspec), in processes of their own: sov-init calls
// itself by the names postgres-prepare and postgres-role.
package cluster
