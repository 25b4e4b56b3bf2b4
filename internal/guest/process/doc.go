// Package process starts the processes of a guest and waits for them.
//
// The [Reaper] does all waiting in PID 1, which inherits every orphan of the machine. It passes
// each exit status to the code that started the process. Package os/exec calls wait itself and
// would race with the Reaper, so PID 1 does not use it.
//
// A [Command] describes the program and its user. Start returns a [Task], whose output is read line
// by line and whose descendants are in a cgroup; Run waits for its end; Stream returns a process
// with pipes for the caller.
//
// The package does not know services: package supervision decides when to start a command.
package process
