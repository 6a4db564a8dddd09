#!/bin/sh
# Installs what scripts/packages.txt lists and this machine lacks, and fetches
# what it lists as download. Does nothing, quickly, where all is there.
#
#   scripts/install.sh              both
#   scripts/install.sh --downloads  only fetch (needs no root)
#
# Packages are installed by root, or through sudo. On a machine without apt-get
# it says what is needed and succeeds: tests then skip what they can't do.
# The cache is .cache in the tree; OVATION_CACHE names another folder.
set -eu

cd "$(dirname "$0")/.."
list=scripts/packages.txt
cache=${OVATION_CACHE:-.cache}
debs=$cache/debs

# listed KIND prints the packages of one kind: install or download.
listed() {
	awk -v want="$1" '{ sub(/#.*/, "") } NF { kind = NF > 1 ? $2 : "install"; if (kind == want) print $1 }' "$list"
}

say() { echo "install: $*" >&2; }

missing() {
	for p in $(listed install); do
		status=$(dpkg-query -W -f '${Status}' "$p" 2>/dev/null) || status=
		[ "$status" = "install ok installed" ] || printf '%s ' "$p"
	done
}

wanting() {
	for p in $(listed download); do
		[ -s "$debs/$p.deb" ] || printf '%s ' "$p"
	done
}

# patiently runs a command again while somebody else holds a lock of apt, and
# when the network fails it once.
patiently() {
	try=1
	until "$@"; do
		[ $try -lt 6 ] || return 1
		say "that failed (attempt $try); trying again in $((try * 5)) s"
		sleep $((try * 5))
		try=$((try + 1))
	done
}

# as_root runs a command as root, or gives up and says what to do.
sudo=
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
		return
	fi
	if [ -z "$sudo" ]; then
		ask=
		[ "${CI:-}" != true ] || ask=-n # nobody is there to type a password
		if ! command -v sudo >/dev/null || ! sudo $ask -v; then
			say "root is needed to install packages, and sudo is not there or refuses."
			say "As root: apt-get install --no-install-recommends $(listed install | tr '\n' ' ')"
			exit 1
		fi
		sudo=yes
	fi
	sudo "$@"
}

refreshed=
refresh() {
	[ -z "$refreshed" ] || return 0
	patiently as_root apt-get -qq update
	refreshed=yes
}

# fetch PACKAGE puts it at $debs/PACKAGE.deb. A package that only depends on
# the one of the day (linux-image-amd64) is followed to that.
fetch() {
	real=$1
	case $1 in
	linux-image-amd64)
		real=$(apt-cache depends --important "$1" 2>/dev/null | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
		[ -n "$real" ] || return 1
		;;
	esac
	dir=$(mktemp -d "$debs/fetch.XXXXXX")
	if (cd "$dir" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$real") && mv "$dir"/*.deb "$debs/$1.deb"; then
		rmdir "$dir"
	else
		rm -rf "$dir"
		return 1
	fi
}

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	say "this is no Debian; tests that lack a tool will say so and skip."
	say "What is needed, by Debian's names: $(listed install | tr '\n' ' ')"
	say "The test appliance is made of these packages: $(listed download | tr '\n' ' ')"
	exit 0
fi

if [ "${1:-}" != --downloads ]; then
	need=$(missing)
	if [ -n "$need" ]; then
		say "installing: $need"
		refresh
		# shellcheck disable=SC2086 # one word a package
		patiently as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq \
			-o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install -y --no-install-recommends $need >&2
	fi
fi

want=$(wanting)
if [ -n "$want" ]; then
	say "fetching into $debs: $want"
	mkdir -p "$debs"
	for p in $want; do
		# The lists of packages may be absent or old: refresh them and retry,
		# where that can be done.
		fetch "$p" || { refresh && patiently fetch "$p"; }
	done
fi
