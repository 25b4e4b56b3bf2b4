// Package android protects processes on Android, which kills a service's whole cgroup with the
// service, kills when memory is low, and limits the children of apps (the phantom-process killer).
// On other systems, where Android's programs do not exist, its calls do nothing and succeed.
package android
