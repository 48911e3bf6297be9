# shellcheck shell=bash disable=SC2034 # status is run's
# SPDX-License-Identifier: Apache-2.0
#
# Tests of vmtest/kernels. Sourced by run. They fetch nothing if the kernels are there.

kernels_listed() {
	local name version image
	run "$ROOT/vmtest/kernels" all
	expect_status 0
	[[ $(wc -l <stdout) == 3 ]] || fail "not three lines: $(<stdout)"
	while read -r name version image; do
		[[ $version == "$name".* ]] || fail "kernel $name has version $version"
		[[ -s $image ]] || fail "no image $image"
		[[ -s ${image%/boot/*}/lib/modules/$version/modules.dep ]] || fail "no modules of $version"
		[[ -s ${image%/boot/*}/usr/lib/modules/$version/modules.dep ]] || fail "no usr/lib/modules of $version"
	done <stdout
}

kernels_cached() {
	local begin=$EPOCHREALTIME
	run "$ROOT/vmtest/kernels" 6.12
	expect_status 0
	[[ ! -s stderr ]] || fail "it did something: $(<stderr)"
	((${EPOCHREALTIME/./} - ${begin/./} < 2000000)) || fail "it took more than 2 s"
}

# The build variants below build/ have no kernels of their own.
kernels_shared() {
	run "$ROOT/vmtest/kernels" 6.12
	mv stdout default
	run env O=build/clang "$ROOT/vmtest/kernels" 6.12
	cmp default stdout || fail "$(<default) but with O=build/clang $(<stdout)"
}

kernels_unknown() {
	run "$ROOT/vmtest/kernels" 5.10
	expect_status 2
	expect_in stderr "'5.10' is no kernel of the matrix"
}

kernels_help() {
	run "$ROOT/vmtest/kernels" -h
	expect_status 0
	expect_in stdout "Usage: vmtest/kernels"
}

# O is not part of these tests' own environment: the kernels of the checkout are meant.
[[ ! -v O ]] || [[ $(cache_dir) == "$ROOT/build" ]] || say "using the kernels of O=$O"
check "kernels: all three are there" kernels_listed
check "kernels: what is there is not fetched again" kernels_cached
check "kernels: build variants share them" kernels_shared
check "kernels: an unknown kernel" kernels_unknown
check "kernels: help" kernels_help
