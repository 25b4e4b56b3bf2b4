// Package supervision runs the services of a guest as the specification (package guestspec)
// describes them: their order, preparation, readiness, restarts and end.
//
// A [Supervisor] has one goroutine for each service, which lives from the service's first start to
// its last end (service.go). Readiness is in readiness.go, and for a PostgreSQL server in
// postgres.go. Package process starts and reaps processes. Steps around a start, such as initdb,
// are commands in the specification.
package supervision
