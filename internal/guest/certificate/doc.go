// Package certificate manages the certificate of the machine's services. At the first start it
// generates a certificate authority for the machine and a certificate signed by it. Later it renews
// the certificate long before it expires, and when the machine's names change ([Keeper]).
//
// Clients trust the authority, not the certificate, so a renewal does not affect them. The
// authority's key is therefore permanent: it is on the data disk, in a directory that services
// cannot see. The services' files are in memory; package guestspec says which service has one.
package certificate
