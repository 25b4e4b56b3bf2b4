// Package androidtest simulates a rooted Android phone for tests and for the program sov-simulator.
// The phone has separate process, mount and network namespaces; uplinks wlan0 and rmnet0 to an
// internet with one server; netd's policy rules and tables with the final unreachable rule, and a
// FORWARD chain that drops packets; mksh and toybox in /system/bin, with stand-ins for getprop,
// device_config, settings and crosvm (package crosvmcli); device nodes and properties by release;
// control groups that are killed with their service; the su and the modules of each root manager,
// whose scripts run in a standalone busybox; a battery and wake locks.
//
// The behaviour follows the sources of Android and of the root managers, by release. Operations
// that these sources do not define fail.
//
// The phone's init process is a re-executed copy of the test or the program, and ends with it, even
// if that is killed. All processes of the phone die with init. The package does not change the
// computer's network, mounts or processes, except for one control group, which it removes. It
// requires root.
package androidtest
