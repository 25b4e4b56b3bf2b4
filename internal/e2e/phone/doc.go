// Package phone tests the machine on a simulated phone: installed and updated by the real adb, run
// by sov-runner, on its network and its tailnet.
package phone
