// Package phonereport collects what tells one phone from another, for people who have a phone that
// these programs have not met: a text that its owner can read before sending it, and that the
// simulated phone of the tests loads as one more make of phone. It holds no serial number, no
// account and no list of apps; hardware addresses and addresses of networks are replaced.
package phonereport
