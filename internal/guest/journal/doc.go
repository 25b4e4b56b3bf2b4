// Package journal is the log of a guest.
//
// Everything that happens, and every line that a service prints, goes to the [Console] as one line:
//
//	sov-init[1]: 2026-07-01T12:00:00.123Z LEVEL SERVICE: TEXT KEY=VALUE...
//
// LEVEL is info, warn or error for lines of the init itself, and out for lines that a service
// printed. SERVICE is init for lines that do not concern a service. Values are quoted as Go strings
// if necessary, control characters are escaped, and lines are at most a few KiB. The line with the
// text "ready" of SERVICE init is printed once, when every service is ready (or, being a task,
// done) for the first time; "power off" is the last one.
//
// The [Journal] gets the same lines, keeps them on the data disk (package logring) and hands them
// to readers. [Redact] removes secrets from text that other programs wrote. Package endpoint serves
// the lines over HTTP.
package journal
