// Package phonetest sets up a simulated phone with a machine on it, controlled by sov-runner on the
// phone, or by sov and the real adb from a computer.
package phonetest
