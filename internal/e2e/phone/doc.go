// Package phone tests the machine on a simulated phone: installed and updated with the real adb,
// run by sov-runner, with its network and its tailnet.
package phone
