#!/system/bin/sh
# Run by the root manager at boot, in its busybox ash, whose own applets take precedence over the
# phone's programs: starts the machine's daemon, which waits until Android has started, and keeps
# running.
module=${0%/*}
name=$(sed -n 's/^id=sov-//p' "$module/module.prop")
exec /data/sovereign/bin/sov-runner up "$name" --no-wait </dev/null >/dev/null 2>&1
