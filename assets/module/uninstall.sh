#!/system/bin/sh
# Run by the root manager at the first boot after the module was removed: shuts the machine down and
# removes it. The data disk and the secrets belong to the user and stay, unless the machine's folder
# contains a file erase-data.
module=${0%/*}
name=$(sed -n 's/^id=sov-//p' "$module/module.prop")
root=/data/sovereign
[ -n "$name" ] || exit 0
erase=
[ ! -e "$root/vms/$name/erase-data" ] || erase=--data
if [ -x "$root/bin/sov-runner" ]; then
	# There is no second run: the module's folder is removed even if this script fails. An older
	# sov-runner does not have --force.
	"$root/bin/sov-runner" remove "$name" $erase --force || "$root/bin/sov-runner" remove "$name" $erase
	exit
fi
# `sov remove` has been here before.
[ -z "$erase" ] || rm -rf "$root/vms/$name" "$root/secrets/$name"
rmdir "$root/vms" "$root/secrets" "$root" 2>/dev/null || true
