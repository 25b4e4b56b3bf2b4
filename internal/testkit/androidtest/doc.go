// Package androidtest is a rooted Android phone for tests, and for the program sov-simulator, as
// far as a machine that runs on it can tell: namespaces of its own for processes, mounts and
// network; uplinks wlan0 and rmnet0 to an internet of one server; netd's policy rules and tables
// with the final unreachable, a FORWARD chain that drops; mksh and toybox in /system/bin, with
// stand-ins for getprop, device_config, settings and crosvm, which plays the release of Android
// that a test names (package crosvmcli); device nodes and properties by release; control groups
// that end with a service; the su and the modules of four root managers, which run in a standalone
// busybox; a battery, and wake locks.
//
// What it does is what the sources of Android and of the root managers say, by release. Where they
// do not say it, it refuses.
//
// Everything ends with the test, or with the program, whatever happened in it: the phone's first
// process is that program, started again, and every other process of the phone dies with it.
// Nothing of the computer's own network, mounts or processes is touched, but for a control group of
// the phone's own, which is removed. It needs root.
package androidtest
