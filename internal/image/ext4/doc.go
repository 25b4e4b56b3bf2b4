// Package ext4 writes and reads ext4 file systems as plain data: no mount, no
// root, no external program.
//
// [Write] writes a [tree.Tree] as an image in one pass. [Open] returns an [io/fs.FS] of an image
// that this package, mke2fs or the kernel made. [FS.Check] verifies the consistency of an image, as
// e2fsck does.
//
// The format is that of the kernel's documentation
// (Documentation/filesystems/ext4, "Data Structures and Algorithms"). Names of
// on-disk structures and fields follow it; split fields (x_lo, x_hi) are one
// field here.
//
// # What the reader reads
//
// Block sizes from 1 to 64 KiB; extent trees and ext2/ext3 block maps; holes and unwritten extents
// (zeros); hashed directories; descriptors of 32 and 64 bytes; flex_bg, meta_bg, sparse_super and
// sparse_super2; extended attributes in the inode, in a block of their own and in inodes of their
// own. Unsupported features that change the position or the meaning of data (bigalloc, inline_data,
// encrypt, verity, casefold, compression, an external journal device) are an error that names them
// when the image is opened.
//
// Images are untrusted input: every offset, length and count is checked against the image before
// use, and every checksum is verified on each read. Memory is bounded by the request, not by values
// in the image. Cycles in trees and symbolic links are errors.
package ext4
