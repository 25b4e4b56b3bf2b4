#!/system/bin/sh
# Run by KernelSU and APatch when Android has started. A daemon that service.sh has started, and that has waited for that too
# long, starts the machine now; one that runs it already is left alone.
# shellcheck source=/dev/null
. "${0%/*}/service.sh"
