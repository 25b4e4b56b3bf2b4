// Package progress shows what a program is doing: on a terminal, as lines, or as JSON.
//
// A Tracker follows Tasks, which count bytes and name steps, and passes Events to a Reporter with
// the time of a Clock. FormatSize writes sizes as the reporters do.
//
// The package does not know what is built. The caller names tasks and decides what is an event.
package progress
