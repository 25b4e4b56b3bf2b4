// Package ext4 writes and reads ext4 file systems as plain data: no mount, no
// root, no external program.
//
// [Write] lays a [tree.Tree] out as an image in one pass. [Open] gives an
// [io/fs.FS] over an image that this package, mke2fs or the kernel made, and
// [FS.Check] compares everything the image says about itself, as e2fsck does.
//
// The format is that of the kernel's documentation
// (Documentation/filesystems/ext4, "Data Structures and Algorithms"). Names of
// on-disk structures and fields follow it; split fields (x_lo, x_hi) are one
// field here.
//
// # What the reader reads
//
// Block sizes from 1 to 64 KiB; extent trees and ext2/ext3 block maps; holes
// and unwritten extents (zeros); hashed directories; descriptors of 32 and 64
// bytes; flex_bg, meta_bg, sparse_super and sparse_super2; extended attributes
// in the inode, in a block of their own and in inodes of their own. Features
// that change where bytes stand or what they mean, and that it does not know
// (bigalloc, inline_data, encrypt, verity, casefold, compression, an external
// journal device), are refused by name when the image is opened.
//
// Everything in an image is taken to be hostile: every offset, length and
// count is checked against the image before use, every checksum the image
// carries is verified on each read, memory is bounded by what was asked for
// and not by what the image claims, and trees and symbolic links that lead
// back to themselves end in an error.
package ext4
