// Package cluster does the work on a PostgreSQL cluster that surrounds its server: it makes the
// cluster once and never again ([Preparation]), rebuilds indexes that another image sorts otherwise
// ([Collations]), makes roles and their databases ([Account]), sets their passwords
// ([SetPassword]), creates extensions ([Extension]), lets a pooler look up roles ([Pooler]), puts
// settings aside that keep the server from starting ([Settings]), saves and restores the databases
// ([Server]), and makes the cluster one of another major version ([Upgrade]).
//
// These run as steps of the service (package guestspec), in processes of their own: sov-init calls
// itself by names that begin with postgres-. [Report] is the part of the guest's status about the
// server. Starting the server and waiting until it is ready is left to package supervision.
package cluster
