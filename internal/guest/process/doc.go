// Package process starts the processes of a guest and waits for them.
//
// The [Reaper] does all the waiting of PID 1, which inherits every orphan of the machine. It hands
// each exit status to the code that started the process. Package os/exec waits by itself and would
// race the Reaper for a status, so nothing in PID 1 uses it.
//
// A [Command] is what to run, as which user. Start returns a [Task], whose output is read line by
// line and whose descendants are held in a cgroup; Run waits for its end; Stream returns a process
// with pipes for the caller.
//
// The package does not know services: when and how often to start a command is decided by package
// supervision.
package process
