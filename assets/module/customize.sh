# Sourced by the installer of KernelSU, APatch or Magisk, under its busybox ash: installs sov-runner
# and the machine in this archive. Both are installed in the same places as by `sov push`, so that
# each can update what the other has installed.
# shellcheck shell=sh disable=SC2034,SC2153,SC2154 # the installer sets MODPATH, ZIPFILE, ARCH and reads SKIPUNZIP
# shellcheck disable=SC2015 # abort does not come back

SKIPUNZIP=1
root=/data/sovereign

unzip -o "$ZIPFILE" module.prop service.sh boot-completed.sh uninstall.sh -d "$MODPATH" >&2 || abort "! The archive cannot be unpacked"
name=$(sed -n 's/^id=sov-//p' "$MODPATH/module.prop")
arch=$(sed -n 's/^sovArch=//p' "$MODPATH/module.prop")
[ "$ARCH" = "$arch" ] || abort "! This module is for $arch, the phone is $ARCH: build it with --arch"

(umask 022 && mkdir -p "$root/bin") || abort "! $root cannot be made"
runner=$root/bin/sov-runner
unzip -p "$ZIPFILE" sov-runner >"$runner.new" && chown 0:0 "$runner.new" && chmod 755 "$runner.new" ||
	abort "! sov-runner cannot be unpacked: is the phone full?"
"$runner.new" version || abort "! sov-runner does not run on this phone"

ui_print "- Installing the machine $name, which takes a moment"
said=$("$runner.new" install "$name" "$ZIPFILE" 2>&1) || { rm -f "$runner.new"; abort "! $said"; }
ui_print "- $said"
mv -f "$runner.new" "$runner" && sync || abort "! sov-runner cannot be put in place"

chmod 755 "$MODPATH/service.sh" "$MODPATH/boot-completed.sh" "$MODPATH/uninstall.sh"
ui_print "- It starts with the phone. Now: su -c '$runner up $name'"
