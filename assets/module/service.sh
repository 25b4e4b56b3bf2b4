#!/system/bin/sh
# Run by the root manager at boot, in its busybox ash, whose own applets come before the phone's programs: starts the machine's
# daemon, which waits for Android to have started, and stays.
module=${0%/*}
name=$(sed -n 's/^id=sov-//p' "$module/module.prop")
exec /data/sovereign/bin/sov-runner up "$name" --no-wait </dev/null >/dev/null 2>&1
