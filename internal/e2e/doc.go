// Package e2e holds the tests of the whole: the sov program builds the sql recipe from a registry and a package
// repository on this computer, the machine boots in QEMU, and PostgreSQL is asked. Kernel and Tailscale are compiled on
// the first run and come from sov's own cache later.
//
// Tests with machines and phones of their own run side by side. Those that look for something in all processes of the
// computer, or load it with builds, run by themselves, and before the others, as package testing has it.
package e2e
