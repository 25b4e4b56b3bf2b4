// Package cluster administers a PostgreSQL cluster: it creates the cluster once ([Preparation]),
// rebuilds indexes that another image sorts differently ([Collations]), creates roles and their
// databases ([Account]), sets passwords ([SetPassword]), creates extensions ([Extension]), lets a
// pooler look up roles ([Pooler]), puts aside settings that prevent the server from starting
// ([Settings]), backs up and restores the databases ([Server]), and upgrades the cluster to another
// major version ([Upgrade]).
//
// These run as steps of the service (package guestspec), in separate processes: sov-init executes
// itself under names that begin with postgres-. [Report] is the part of the guest's status about
// the server. Package supervision starts the server and waits until it is ready.
package cluster
