// Package supervision runs the services of a guest as the specification (package guestspec)
// describes them: each after those it needs, with its preparation, its readiness, its restarts and
// its end.
//
// A [Supervisor] has one goroutine for each service, which lives from the service's first start to
// its last end (service.go). Readiness is in readiness.go, and for a PostgreSQL server in
// postgres.go. How a process is started and reaped is left to package process; steps around a
// start, such as initdb, are commands of the specification and not known here.
package supervision
