// Package bench holds benchmarks of builds, boots, pushes and caches beside their peers.
package bench
