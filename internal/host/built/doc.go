// Package built finds what `sov build` has written: the folder of a recipe's artifact, the machine
// that an argument means, and the image of a root file system. It reads nothing but what it needs
// for that; to check an artifact is package verify's, to look inside is package inspect's.
package built
