// Package remote shares results of builds between computers. Wrap returns a store that reads
// through to remote caches and writes through to them; Push and Pull copy whole stores. It is up to
// package store what is in a record, and to the engine what runs when a cache does not help.
//
// A Cache is a place that several computers reach. This package has one kind, PieceCache, in a
// repository of an OCI registry, in a directory that they share, or in one file that is carried
// from one to the other.
//
// # How a store is wrapped
//
// A record that the local store lacks is looked for in the caches, and stored, marked with the name
// of the cache, before any of its blobs: a blob crosses the network when a stage opens it, or at
// the end if the build delivers it. A blob that no cache gives is a *store.BlobError.
//
// A cache that fails is warned about once and left alone from then on. An entry that is not what it
// should be is refused, and after a few of them the cache is left alone too.
//
// # What is kept
//
// A blob is cut into pieces of about a megabyte, at places that its content decides, and each piece
// is compressed with zstd. Two root file systems that differ in one file have all other pieces in
// common, and a cache that has those is not sent them again. Pieces are named by the SHA-256 of
// their compressed form. An index says for a key: the record as package store writes it, and the
// pieces of its blobs. Pieces are there before the index that names them.
//
// In a registry an index is the configuration of an OCI artifact that is tagged with the key, and
// embedded in its manifest, so that one request finds it; the pieces are the artifact's layers,
// which the registry stores once. In a directory or file:
//
//	sov-cache.json           the format's version
//	index/<key>.json         indexes
//	pieces/ab/<hex>          pieces
//
// # What is believed
//
// Nothing: a piece must have the digest and length that its index says, a blob the digest that its
// record says, and a record must be about the inputs that were asked for. What a stage pins by
// digest is compared with that by package pipeline. Any other result cannot be checked without
// making it again, and every writer of a cache can put any result under any key: with a Trust
// only records count that a trusted key has signed. Options.Believe extends that to what the local
// store has taken before, and keeps it from being signed and sent on.
package remote
