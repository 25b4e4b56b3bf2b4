// Package guest tests the machine that sov builds, booted in QEMU on this computer.
package guest
