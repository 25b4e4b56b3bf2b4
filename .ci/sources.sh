# Sourced by scripts that build: creates $work, a folder that is removed at the end, and defines
# sources.
# shellcheck shell=sh disable=SC2034

work=$(mktemp -d)
mirror=""
cleanup() {
	status=$?
	[ -z "$mirror" ] || kill "$mirror" 2>/dev/null || true
	rm -rf "$work"
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# sources ARCH: sets $image and $repository. They are empty if the public sources answer; otherwise
# they name a sov-mirror, which is started on this computer and ends with the script. $lock is a
# file for these sources, because a lock names its sources.
sources() {
	image="" repository="" lock=out/public.lock
	mkdir -p out
	if bin/sov doctor --only sources >/dev/null 2>&1; then
		echo "sources: Docker Hub, Alpine's mirror and kernel.org answer"
		return
	fi
	echo "sources: the public ones do not all answer: sov-mirror serves Debian's PostgreSQL, repackaged, on this computer"
	# A fixed port lets later runs use the same lock, which names the port; if it is in use, another
	# port is chosen.
	serve "$1" 127.0.0.1:5080 || {
		echo "sources: another port will do"
		serve "$1" 127.0.0.1:0
	}
	image=$(sed -n 's/.*"image":"\([^"]*\)".*/\1/p' "$work/mirror.json")
	repository=$(sed -n 's/.*"repositories":\["\([^"]*\)".*/\1/p' "$work/mirror.json")
	key=$(sed -n 's|.*"keys":\["[^"]*/\([^"/]*\)\.rsa\.pub".*|\1|p' "$work/mirror.json")
	port=${image#*:}
	lock="out/$key-${port%%/*}.lock"
}

# serve ARCH ADDRESS: starts a sov-mirror and waits until it has printed its line, or has failed
# with an error.
serve() {
	bin/sov-mirror --arch "$1" --listen "$2" --json >"$work/mirror.json" &
	mirror=$!
	while [ ! -s "$work/mirror.json" ]; do
		kill -0 "$mirror" 2>/dev/null || return 1
		sleep 0.1
	done
}
