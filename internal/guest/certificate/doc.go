// Package certificate keeps the certificate that the machine's services show to their clients. At
// the first start it makes an authority of the machine's own and has it sign a certificate; later
// it renews the certificate long before it expires, and when the machine gets another name
// ([Keeper]).
//
// Clients trust the authority, not the certificate: a renewal changes nothing for them. So the
// authority's key has to stay. It is on the data disk, in a directory that no service sees. The
// services' own files are in memory; which service has one is in package guestspec.
//
// A service may want the certificate that a public authority has signed for the machine's name on
// its tailnet ([Issuer]). It is kept beside the own one, and while there is none that is valid, the
// service shows the own one and the log says why.
package certificate
