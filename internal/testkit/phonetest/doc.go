// Package phonetest is a simulated phone with the machine on it, as its user has it: by sov-runner
// on the phone, or by sov and the real adb from a computer.
package phonetest
