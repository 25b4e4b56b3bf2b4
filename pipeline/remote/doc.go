// Package remotecache keeps results of builds where several computers find
// them: in a repository of an OCI registry, in a directory that they share, or
// in one file that is carried from one to the other. A Cache is a
// pipeline.Remote.
//
// # What is kept
//
// A blob is cut into pieces of about a megabyte, at places that its content
// decides, and each piece is compressed with zstd. Two root file systems that
// differ in one file have all other pieces in common, and what has them
// already need not be sent them again. Pieces are named by the SHA-256 of their
// compressed form. An index says for a key: the action record as package
// pipeline writes it, and of which pieces its blobs consist. Pieces are there
// before the index that names them.
//
// In a registry an index is the configuration of an OCI artifact that is tagged
// with the key, and embedded in its manifest, so that one request finds it; the
// pieces are the artifact's layers, which the registry stores once. In a
// directory or file:
//
//	sov-cache.json           the format's version
//	index/<key>.json         indexes
//	pieces/ab/<hex>          pieces
//
// # What is believed
//
// Nothing: a piece has to have the digest and length that its index says, and
// package pipeline checks what they come to. Whoever can write to a remote cache
// can, however, put any result under any key, as with every shared cache: let
// only builds that are trusted write to it.
package remote
