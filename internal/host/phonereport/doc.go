// Package phonereport collects the properties in which phone models differ, to support models that
// have not been tested. A report is a text that the phone's owner can read before sending it, and
// that the tests' simulated phone loads as another model. It has no serial number, no account and
// no list of apps; hardware addresses and network addresses are replaced.
package phonereport
