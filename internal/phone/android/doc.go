// Package android deals with what Android does to processes that it does not know: it kills children of what it takes
// for apps (the phantom-process killer), kills for want of memory, and ends a service's whole cgroup with the service.
// On any other Linux, where its programs do not exist, there is nothing to deal with and every call succeeds.
package android
