#!/bin/sh
# Makes the seeds of FuzzOpen: small images with every kind of thing that the
# reader reads. Without metadata checksums the fuzzer gets further in, so only
# one of them has some. Run it here, as root, with e2fsprogs installed.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
mkdir -p "$tree/dir/sub" "$tree/many"
echo hello >"$tree/dir/sub/file"
ln "$tree/dir/sub/file" "$tree/hardlink"
ln -s dir/sub/file "$tree/link"
ln -s "$(printf 'long/%.0s' $(seq 14))" "$tree/slow"
mknod "$tree/null" c 1 3
mkfifo "$tree/fifo"
setfattr -n user.small -v x "$tree/hardlink"
setfattr -n user.large -v "$(printf 'y%.0s' $(seq 300))" "$tree/dir"
for i in $(seq 60); do : >"$tree/many/a longer name of entry $i"; done
dd if=/dev/urandom of="$tree/sparse" bs=1024 seek=40 count=1 status=none
dd if=/dev/urandom of="$tree/sparse" bs=1024 seek=4 count=1 conv=notrunc status=none
common='^has_journal,^resize_inode'
make() {
	name=$1 features=$2
	mke2fs -q -F -t ext4 -b 1024 -N 96 -U 00000000-0000-4000-8000-000000000001 -O "$common,$features" -d "$tree" "$work/$name" 160k
	e2fsck -fyD "$work/$name" >/dev/null 2>&1 || [ $? -le 1 ]
	gzip -9nc "$work/$name" >"$name.img.gz"
}
make checksums metadata_csum
make extents '^metadata_csum,^64bit'
make blockmaps '^metadata_csum,^64bit,^extent,^flex_bg'
