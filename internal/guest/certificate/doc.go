// Package certificate manages the certificate of the machine's services. At the first start it
// generates a certificate authority for the machine and a certificate signed by it. Later it renews
// the certificate long before it expires, and when the machine's names change ([Keeper]).
//
// Clients trust the authority, not the certificate, so a renewal does not affect them. The
// authority's key is therefore permanent: it is on the data disk, in a directory that services
// cannot see. The services' files are in memory; package guestspec says which service has one.
//
// A service can have the certificate that a public authority signed for the machine's name on its
// tailnet ([Issuer]). The keeper stores it beside its own one. While no such certificate is valid,
// the service uses the machine's own one and the log gives the reason.
package certificate
