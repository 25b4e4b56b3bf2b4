// Package android deals with what Android does to processes: it ends a service's whole control
// group with the service, kills for want of memory, and counts the children of apps (the
// phantom-process killer). On any other Linux, where its programs do not exist, there is nothing to
// deal with and every call succeeds.
package android
