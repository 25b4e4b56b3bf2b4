// Package cluster does the work on a PostgreSQL cluster that surrounds its server: it makes the
// cluster once and never again ([Preparation]), makes roles and their databases ([Account]), sets
// their passwords ([SetPassword]), saves and restores the databases ([Server]), and makes the cluster one of another major
// version ([Upgrade]).
//
// These run as steps of the service (package guestspec), in processes of their own: sov-init calls
// itself by the names postgres-prepare, postgres-account, postgres-role, postgres-backup,
// postgres-restore and postgres-upgrade. [Report] is the part of the guest's status about the server. Starting the
// server and waiting until it is ready is left to package supervision.
package cluster
