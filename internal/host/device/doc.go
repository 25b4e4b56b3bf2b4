// Package device talks to the computer that a machine runs on: a phone by the real adb program, a
// phone or server by the real ssh program, or this computer itself. All of them are a shell in
// which commands run as root, so one way of running a command serves all.
//
// What travels is binary-safe both ways, standard output and standard error stay apart, and the
// exit status is the command's own. A command is over when it has ended and all that it printed has
// come, even where a daemon that it started still holds its pipes: adb and ssh by themselves would
// wait for that daemon. Each stream carries a random mark as its last bytes, which also tells a
// command that ended from a connection that broke.
//
// A connection that breaks looks to a command like the end of its standard input. A caller
// that sends content has its length or digest checked there before it is used, as WriteFile does.
//
// What a phone answers is not trusted: callers bound and check it, as Output does.
package device
