// Package androidtest is a rooted Android phone for tests, as far as a machine that runs on it can tell: namespaces of
// its own for processes, mounts and network; uplinks wlan0 and rmnet0 to an internet of one server; netd's policy rules
// and tables with the final unreachable, a FORWARD chain that drops; /data, /apex and /system with stand-ins for
// getprop, device_config, settings and crosvm, which plays the release of Android that a test names (package crosvmcli) on
// the hypervisor that it names; and the killer of processes that Android does not know.
//
// Everything ends with the test, whatever happened in it: the phone's first process is the test binary itself, started
// again, and every other process of the phone dies with it. Nothing of the computer's own network, mounts or processes
// is touched. It needs root.
package androidtest
