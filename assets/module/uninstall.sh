#!/system/bin/sh
# Run by the root manager when the module is removed: shuts the machine down and removes it. The database is the user's: its
# disk and the secrets stay, unless there is a file erase-data in the machine's folder.
module=${0%/*}
name=$(sed -n 's/^id=sov-//p' "$module/module.prop")
root=/data/sovereign
[ -n "$name" ] && [ -x "$root/bin/sov-runner" ] || exit 0
if [ -e "$root/vms/$name/erase-data" ]; then
	exec "$root/bin/sov-runner" remove "$name" --data
fi
exec "$root/bin/sov-runner" remove "$name"
