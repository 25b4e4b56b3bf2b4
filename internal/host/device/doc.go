// Package device runs commands as root on the computer of a machine: a phone through the adb
// program, a phone or server through the ssh program, or this computer. All of them provide a
// shell, so they share one implementation.
//
// Streams are binary-safe in both directions, standard output and standard error are separate, and
// the exit status is the command's. Run returns when the command has ended and all its output was
// received, even if a daemon that it started keeps its pipes open; adb and ssh alone would wait for
// that daemon. Each output stream ends with a random mark, which also distinguishes the end of a
// command from a broken connection.
//
// For a command, a broken connection looks like the end of its standard input. Commands must
// therefore check the length or digest of sent content before they use it, as WriteFile does.
//
// A phone's output is untrusted: callers must limit and validate it, as Output does.
package device
