// Package remote shares results of builds between computers. Wrap returns a store that reads
// through to remote caches and writes through to them; Push and Pull copy whole stores. Package
// store defines the contents of a record; the engine decides what runs if no cache has a result.
//
// A Cache is a place that several computers reach. This package has one implementation, PieceCache.
// It keeps its data in a repository of an OCI registry, in a shared directory, or in one file that
// is carried from one computer to another.
//
// # How a store is wrapped
//
// A record that the local store lacks is looked up in the caches and stored with the name of the
// cache, before any of its blobs. A blob is fetched when a stage opens it, or at the end if the
// build delivers it. If no cache has a blob, the error is a *store.BlobError.
//
// After an error of a cache the build warns once and stops using that cache. A damaged entry is
// refused; after a few of them the build also stops using the cache.
//
// # What is kept
//
// A blob is cut into pieces of about a megabyte by content-defined chunking, and each piece is
// compressed with zstd. Two root file systems that differ in one file share all other pieces, and a
// piece that a cache has is not sent again. Pieces are named by the SHA-256 of their compressed
// form. The index of a key contains the record as package store writes it, and the list of pieces
// of its blobs. Pieces are stored before the index that names them.
//
// In a registry an index is the configuration of an OCI artifact that is tagged with the key, and
// embedded in its manifest, so that one request finds it; the pieces are the artifact's layers,
// which the registry stores once. In a directory or file:
//
//	sov-cache.json           the format's version
//	index/<key>.json         indexes
//	pieces/ab/<hex>          pieces
//
// # What is trusted
//
// Nothing is trusted unchecked: a piece must match the digest and length in its index, a blob the
// digest in its record, and a record the requested inputs. Package pipeline compares pinned results
// with their digests. Other results cannot be checked without making them again, and every writer
// of a cache can put any result under any key: with a Trust, only records with a signature by a
// trusted key are used. Options.Believe applies the same rule to records that the local store took
// earlier, so that they are not signed and sent on.
package remote
