// Package androidtest simulates a rooted Android phone for tests, and for the program
// sov-simulator: separate namespaces for processes, mounts and network; uplinks wlan0 and rmnet0 to
// an internet of one server; netd's policy rules and tables with the final unreachable, a FORWARD
// chain that drops; mksh and toybox in /system/bin, with stand-ins for getprop, device_config,
// settings and crosvm, which plays the release of Android that a test names (package crosvmcli);
// device nodes and properties by release; control groups that end with a service; the su and the
// modules of four root managers, which run in a standalone busybox; a battery, and wake locks.
//
// Its behaviour follows the sources of Android and of the root managers, by release. What they do
// not define fails.
//
// Everything ends with the test or the program, however that ends: the phone's init process is that
// program, executed again, and all processes of the phone die with it. It does not change the
// computer's network, mounts or processes, except for a control group for the phone, which is
// removed. It needs root.
package androidtest
