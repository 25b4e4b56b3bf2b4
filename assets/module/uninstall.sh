#!/system/bin/sh
# Run by the root manager at the first boot after the module was removed: shuts the machine down and removes all that is not
# the user's. The database is: its disk and the secrets stay, unless there is a file erase-data in the machine's folder.
module=${0%/*}
name=$(sed -n 's/^id=sov-//p' "$module/module.prop")
root=/data/sovereign
[ -n "$name" ] || exit 0
erase=
[ ! -e "$root/vms/$name/erase-data" ] || erase=--data
if [ -x "$root/bin/sov-runner" ]; then
	# There is no second run: the module's folder is removed whatever happens here. An older sov-runner does not know --force.
	"$root/bin/sov-runner" remove "$name" $erase --force || "$root/bin/sov-runner" remove "$name" $erase
	exit
fi
# `sov remove` has been here before.
[ -z "$erase" ] || rm -rf "$root/vms/$name" "$root/secrets/$name"
rmdir "$root/vms" "$root/secrets" "$root" 2>/dev/null || true
