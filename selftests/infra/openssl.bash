# shellcheck shell=bash disable=SC2034,SC2016 # status is run's; for other shells
# SPDX-License-Identifier: Apache-2.0
#
# Tests of vmtest/openssl, with an apt that does as FAKE says: nothing is fetched, nothing is built. Sourced by run.

make_apt() {
	mkdir -p bin
	cat >bin/apt-get <<-'END'
		#!/bin/bash
		case "$*" in
		*--print-uris*)
			[[ $FAKE == no-mirror ]] || echo "'http://mirror.invalid/debian/dists/trixie/InRelease' x 0"
			;;
		*update*) [[ $FAKE != no-network ]] || { echo "Could not resolve mirror.invalid"; exit 100; } ;;
		*) echo "404 $*" >&2; exit 100 ;;
		esac
	END
	cat >bin/apt-cache <<-'END'
		#!/bin/bash
		[[ $FAKE == no-files ]] || exit 0
		printf 'Package: openssl\nVersion: %s\n\n' 3.5.1-1 3.5.4-1~deb13u3 3.6.0-1 3.5.4-1~deb13u2
	END
	chmod +x bin/*
}

# run_openssl FAKE [ARGUMENT]...
run_openssl() {
	local fake=$1
	shift
	make_apt
	run env -u O KMTLS_CACHE="$PWD/cache" FAKE="$fake" PATH="$PWD/bin:$PATH" "$ROOT/vmtest/openssl" "$@"
}

expect_nothing_left() {
	local left
	left=$(find cache -maxdepth 1 -name '*openssl-*')
	[[ ! $left ]] || fail "it left $left"
}

pretend_built() {
	mkdir -p cache/openssl-3.5
	echo 3.5.4-1 >cache/openssl-3.5/version
	sed -n 's/^LAYOUT=//p' "$ROOT/vmtest/openssl" >cache/openssl-3.5/layout
}

openssl_no_mirror() {
	run_openssl no-mirror
	expect_status 1
	expect_in stderr "apt's own sources name no Debian 12 or 13"
	expect_nothing_left
}

openssl_no_network() {
	run_openssl no-network
	expect_status 1
	expect_in stderr "Could not resolve mirror.invalid"
	expect_in stderr "apt could not refresh the lists"
	expect_nothing_left
}

# apt calls it a success if lists cannot be fetched.
openssl_no_lists() {
	run_openssl no-lists 3.5
	expect_status 1
	expect_in stderr "there is no source package openssl 3.5 in trixie"
	expect_nothing_left
}

openssl_no_files() {
	run_openssl no-files
	expect_status 1
	[[ $(sed -n 's/.*the source of \([^ ]*\)$/\1/p' stderr) == $'3.5.4-1~deb13u3\n3.5.4-1~deb13u2\n3.5.1-1' ]] ||
		fail "not each of the series, the newest first: $(<stderr)"
	expect_in stderr "apt could not download the source of 3.5.4-1~deb13u3 3.5.4-1~deb13u2 3.5.1-1"
	expect_nothing_left
}

openssl_cached() {
	pretend_built
	run_openssl no-network
	expect_status 0
	[[ $(<stdout) == "3.5 3.5.4-1 $PWD/cache/openssl-3.5" ]] || fail "it says $(<stdout)"
	[[ ! -s stderr ]] || fail "it did something: $(<stderr)"
	run_openssl no-network 3.5 -- sh -c 'echo "$OPENSSL: $*"; exit 3' sh -u
	expect_status 3
	[[ $(<stdout) == "$PWD/cache/openssl-3.5: -u" ]] || fail "it says $(<stdout)"
}

# A tree that another version of the script has made is made anew, and stays until then.
openssl_layout() {
	pretend_built
	echo 0 >cache/openssl-3.5/layout
	run_openssl no-network
	expect_status 1
	[[ -e cache/openssl-3.5/version ]] || fail "what was there is gone"
}

openssl_unknown() {
	run_openssl none 1.1
	expect_status 2
	expect_in stderr "'1.1' is no series of OpenSSL"
	run_openssl none -h
	expect_status 0
	expect_in stdout "Usage: vmtest/openssl"
}

# A directory without it must not mean that of the system.
openssl_make() {
	run env -u MAKEFLAGS -u MAKELEVEL make -n -C "$ROOT" O="$PWD/build" OPENSSL="$PWD/none" all
	expect_status 2
	expect_in stderr "has no lib/libssl.so.3"
}

check "openssl: without a mirror" openssl_no_mirror
check "openssl: without a network" openssl_no_network
check "openssl: without lists" openssl_no_lists
check "openssl: the newest that the mirror has" openssl_no_files
check "openssl: what is there is not built again" openssl_cached
check "openssl: of another layout" openssl_layout
check "openssl: usage" openssl_unknown
check "openssl: make with a directory that has none" openssl_make
