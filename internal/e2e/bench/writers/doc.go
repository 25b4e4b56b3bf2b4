// Package writers measures the ext4 writer of internal/ext4 beside others: on
// the same tar, in the same run, in turns, with a plain copy as what the disk
// and the kernel allow. It is a module of its own so that the peers do not
// become dependencies of the product.
//
//	go test -run '^$' -bench . -benchtime 7x
//
// runs everything seven times in turns and prints the medians.
package writers
