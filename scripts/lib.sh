# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Shell helpers shared by scripts/ and vmtest/: where things are, how messages
# look, locks, and a private apt that neither reads nor changes the user's own
# package sources. Sourced, never run; the caller has set -euo pipefail.

ROOT=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd -P)
PROGRAM=${0##*/}

say() { printf '%s\n' "$PROGRAM: $*" >&2; }

die() {
	say "$*"
	exit 1
}

# usage_error MESSAGE: the caller was called wrongly; exit status 2.
usage_error() {
	say "$*"
	say "try '$PROGRAM -h'"
	exit 2
}

# The comment paragraph between "# Usage:" and the first line that is no comment, as help text.
print_usage() {
	sed -n '/^# Usage:/,/^[^#]\|^$/{/^#/s/^# \{0,1\}//p}' "$1"
}

# build_dir: the absolute build directory. A relative O counts from the checkout, as in make O=...
build_dir() {
	local dir=${O:-build}
	[[ $dir == /* ]] || dir=$ROOT/$dir
	printf '%s\n' "${dir%/}"
}

# cache_dir: where downloaded and derived things of the test machinery live. The variants below
# build/ (build/clang, build/san) share what build/ has, so that kernels are fetched once;
# KMTLS_CACHE names another place.
cache_dir() {
	local dir=${KMTLS_CACHE:-}
	if [[ $dir ]]; then
		realpath -m -- "$dir"
		return
	fi
	dir=$(build_dir)
	[[ $dir == "$ROOT"/build/* ]] && dir=$ROOT/build
	printf '%s\n' "$dir"
}

# take_lock FILE: waits until no other process holds the lock; drop_lock or the end of the script gives
# it back. Programs that stay behind would keep it: start none in between.
take_lock() {
	mkdir -p "${1%/*}"
	exec {LOCK_FD}>"$1"
	if ! flock -n "$LOCK_FD"; then
		say "waiting for another run (lock $1)"
		flock "$LOCK_FD"
	fi
}

drop_lock() {
	exec {LOCK_FD}>&-
}

# --- a private apt -----------------------------------------------------------------------------

# debian_sources SUITE...: prints one-line apt sources for the suites, with the mirrors that this
# machine's own apt uses. Suites named *-security come from its security mirror; source:SUITE is its source packages.
debian_sources() {
	local suite uri kind keyring mirrors main security
	for keyring in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
		[[ -e $keyring ]] && break
	done
	[[ -e $keyring ]] || die "no Debian archive keyring: install debian-archive-keyring"
	mirrors=$(apt-get -o Debug::NoLocking=1 --print-uris update 2>/dev/null |
		sed -n "s,^'\(.*\)/dists/\(bookworm\|trixie\)\([^/]*\)/\(In\)\?Release'.*,\3 \1,p")
	security=$(awk '$1 == "-security" { print $2; exit }' <<<"$mirrors")
	main=$(awk 'NF == 1 { print $1; exit }' <<<"$mirrors")
	[[ $main ]] || die "apt's own sources name no Debian 12 or 13 (bookworm, trixie) mirror"
	for suite; do
		uri=$main kind=deb
		[[ $suite != source:* ]] || kind=deb-src
		if [[ $suite == *-security ]]; then
			[[ $security ]] || continue
			uri=$security
		fi
		printf '%s [signed-by=%s] %s %s main\n' "$kind" "$keyring" "$uri" "${suite#source:}"
	done
}

# private_apt_open DIR SUITE...: makes DIR an apt of its own for the suites and refreshes its
# lists unless that was done within the last six hours. Sets PRIVATE_APT, the options to pass.
private_apt_open() {
	local dir=$1 sources
	shift
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	PRIVATE_APT=(
		-o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
		-o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir/cache"
		-o "Dir::Cache::pkgcache=pkgcache.bin" -o "Dir::Cache::srcpkgcache=srcpkgcache.bin"
		-o Acquire::Languages=none -o Acquire::Retries=3
		-o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
		-o APT::Update::Post-Invoke=true -o APT::Sandbox::User=root -q
	)
	sources=$(debian_sources "$@")
	if [[ -e $dir/updated && $(<"$dir/sources.list") == "$sources" &&
		$(find "$dir/updated" -mmin -360) ]]; then
		return
	fi
	printf '%s\n' "$sources" >"$dir/sources.list"
	rm -f "$dir/updated"
	say "refreshing package lists ($*)"
	if ! apt-get "${PRIVATE_APT[@]}" update >"$dir/update.log" 2>&1; then
		cat "$dir/update.log" >&2
		die "apt could not refresh the lists of: $*"
	fi
	touch "$dir/updated"
}

# private_apt_get DIR ARGUMENT...: the private apt's apt-get in DIR. What it says is in apt.log there.
private_apt_get() {
	local dir=$1
	shift
	(cd "$dir" && apt-get "${PRIVATE_APT[@]}" "$@" >apt.log 2>&1)
}

# --- a directory that is whole or not there ----------------------------------------------------

# scratch_open DIR: sets SCRATCH, an empty directory beside DIR that is removed at the end of the script unless
# scratch_keep DIR makes it DIR. One at a time.
scratch_open() {
	SCRATCH=${1%/*}/.${1##*/}.$$
	rm -rf "$SCRATCH"
	mkdir -p "$SCRATCH"
	trap scratch_drop EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

scratch_drop() { [[ ! $SCRATCH ]] || rm -rf "$SCRATCH" "$SCRATCH.old"; }

# Somebody may still use the old one, so it leaves its place whole and is removed after.
scratch_keep() {
	[[ ! -e $1 ]] || mv -T "$1" "$SCRATCH.old"
	mv -T "$SCRATCH" "$1"
	rm -rf "$SCRATCH.old"
	SCRATCH=
}
