// Package bench contains benchmarks of builds, boots, pushes and caches, compared with other
// programs.
package bench
