#!/system/bin/sh
# Run by KernelSU and APatch when Android has started. If the daemon that service.sh started has
# waited too long for Android, it starts the machine now; a running machine is not changed.
# shellcheck source=/dev/null
. "${0%/*}/service.sh"
