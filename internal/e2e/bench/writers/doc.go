// Package writers compares the ext4 writer of internal/ext4 with others: on the same tar, in the
// same run and in turns. A plain copy measures the limit of the disk and the kernel. The package is
// a separate module, so that the other writers are not dependencies of the product.
//
//	go test -run '^$' -bench . -benchtime 7x
//
// runs every benchmark seven times in turns and prints the medians.
package writers
