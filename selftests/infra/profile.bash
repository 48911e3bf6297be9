# shellcheck shell=bash disable=SC2034 # status is run's
# SPDX-License-Identifier: Apache-2.0
#
# Tests of vmtest/profile: the plugin in a real guest, with a program of which it is known how many instructions it
# has, and the tables from a guest that is a stand-in. Sourced by run.

build_plugin() {
	gcc -O2 -fvisibility=hidden -fPIC -shared -o counts.so "$ROOT/vmtest/bench.d/plugin/counts.c" || fail "the plugin cannot be built"
}

# A million times two instructions between marks, and as many outside of them; uname() between marks, too.
build_loop() {
	cat >loop.c <<-'END'
		#include <sys/utsname.h>
		#include "benchmark.h"
		static void __attribute__((noinline)) loop(unsigned long count)
		{
			__asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(count));
		}
		int main(int argc, char **argv)
		{
			struct utsname name;

			loop(1000000);
			if (argc == 1)
				BENCH_MARK(BENCH_MARK_BEGIN);
			for (int i = 0; i < 1000; i++) {
				loop(1000);
				uname(&name);
			}
			if (argc == 1)
				BENCH_MARK(BENCH_MARK_END);
			loop(1000000);
			return 0;
		}
	END
	gcc -O2 -static -I"$ROOT/selftests/vm/tools" -o loop loop.c || fail "the program cannot be built"
}

# executed FILE AWK-CONDITION: instructions in the plugin's file.
executed() {
	awk "NF == 3 && ($2) { sum += \$2 * \$3 } END { print sum + 0 }" "$1"
}

profile_plugin() {
	local user first end
	build_plugin
	build_loop
	run "$ROOT/vmtest/vm" --icount --append nokaslr -t 120 -- grep -A 1 -w __do_sys_newuname /proc/kallsyms
	expect_status 0
	first=$(sed -n 1p stdout) end=$(sed -n 2p stdout)
	run "$ROOT/vmtest/vm" --icount --append nokaslr -t 120 \
		--plugin "$PWD/counts.so,out=$PWD/counts,callee=${first%% *}-${end%% *}" -- ./loop
	expect_status 0
	# shellcheck disable=SC2016 # awk's
	user=$(executed counts 'length($1) < 16')
	((2000000 < user && user < 2200000)) || fail "$user instructions of the program were counted, not about two million"
	awk 'NF == 4 { calls += $4 } END { exit calls != 1000 }' counts || fail "uname(2) was not called 1000 times: $(grep -E '( .*){3}' counts)"
}

# Nothing is made up where there is no mark, and the guest runs all the same.
profile_no_mark() {
	build_plugin
	build_loop
	run "$ROOT/vmtest/vm" --icount -t 120 --plugin "$PWD/counts.so,out=$PWD/counts" -- ./loop without
	expect_status 0
	[[ ! -e counts ]] || fail "there are counts"
	run "$ROOT/vmtest/vm" -t 120 --accel kvm --plugin "$PWD/counts.so,out=$PWD/counts" -- true
	expect_status 2
	expect_in stderr "--plugin needs TCG, not KVM"
}

make_profile_tree() {
	unset MAKEFLAGS MAKELEVEL # of a make that runs us
	mkdir -p tree/selftests/vm tree/scripts tree/build
	cp -r "$ROOT/vmtest" tree/
	printf 'all:\n' >tree/Makefile
	printf '#!/bin/sh\n' >tree/selftests/vm/prepare
	cat >tree/vmtest/vm <<-'END'
		#!/bin/bash
		kernel_symbols='ffffffff81000100 T tcp_ack
		ffffffff81000200 t __memset
		ffffffff81000300 t tls_get_rec [tls]
		ffffffff81000400 t the_end'
		out=''
		while (($#)); do
			[[ $1 != --out ]] || out=$2
			[[ $1 != --plugin ]] || plugin=$2
			shift
		done
		if [[ ! $out ]]; then
			echo "$kernel_symbols"
			exit
		fi
		[[ $FAKE == no-callers || $plugin == *,callee=ffffffff81000200-ffffffff81000300 ]] || exit 3
		[[ $FAKE != fails ]] || echo '{"failed": {"arm": "kmtls"}, "why": "the daemon ended"}'
		[[ $FAKE != silent ]] || exit 0
		echo "$kernel_symbols" >"$out/kallsyms"
		echo '{"runs": [{"count": 4}, {"count": 6}]}' >"$out/load.json"
		printf '400000-500000 r-xp 00001000 00:00 1 %s\n' /nowhere/kmtlsd >"$out/maps.77"
		{
			echo "ffffffff81000100 10 70"
			echo "ffffffff81000120 5 10"
			echo "ffffffff81000200 2 100"
			echo "ffffffff81000310 1 20"
			echo "400010 3 10"
			[[ $FAKE == no-callers ]] || echo "ffffffff81000200 ffffffff81000310 200 100"
		} >"$out/counts"
		[[ $FAKE != empty ]] || rm "$out/counts"
		value=100
		[[ $FAKE != differs ]] || value=150
		echo "{\"result\": {\"arm\": \"kmtls\", \"metric\": \"rtt_64\", \"unit\": \"instructions\", \"value\": $value}}"
	END
	chmod +x tree/selftests/vm/prepare tree/vmtest/vm
}

# profile FAKE [OPTION]...
profile() {
	run env -u O -u KMTLS_ACCEL FAKE="$1" tree/vmtest/profile kmtls rtt_64 "${@:2}"
}

profile_table() {
	make_profile_tree
	profile good --out out --callers __memset
	expect_status 0
	expect_in stdout "kmtls rtt_64, kernel 6.12: 100 instructions in functions, 100 measured, 10 operations"
	grep -qE '^TCP/IP +75 +75\.0%$' stdout || fail "no group TCP/IP: $(<stdout)"
	grep -qE '^zeroing of memory +20 +20\.0%$' stdout || fail "no group of zeroing: $(<stdout)"
	grep -qE '^tcp_ack +TCP/IP +75 +75\.0% +7$' stdout || fail "no function tcp_ack: $(<stdout)"
	grep -qE '^tls_get_rec \[tls\] +kernel TLS +2 +2\.0%' stdout || fail "no tls_get_rec: $(<stdout)"
	grep -qE '^\? \[kmtlsd\] +kmtlsd +3 +3\.0%' stdout || fail "no kmtlsd: $(<stdout)"
	grep -A 1 -E '^__memset called by' stdout | grep -qE '^tls_get_rec \[tls\] +20 +10$' || fail "no callers: $(<stdout)"
	run python3 -c 'import json; found = json.load(open("out/profile-kmtls-rtt_64.json")); print(found["groups"]["TCP/IP"], found["total"])'
	expect_in stdout "75.0 100.0"
	profile no-callers --json
	expect_status 0
	expect_in stdout '"function": "tcp_ack"'
}

# profile_refuses FAKE STATUS TEXT [OPTION]...
profile_refuses() {
	make_profile_tree
	profile "$1" "${@:4}"
	expect_status "$2"
	expect_in stderr "$3"
}

check "profile: the plugin counts what is executed between marks" profile_plugin
check "profile: no mark, no counts" profile_no_mark
check "profile: groups, functions, callers" profile_table
check "profile: a step that fails" profile_refuses fails 1 "kmtls: the daemon ended" --callers __memset
check "profile: a guest that says nothing" profile_refuses silent 1 "the run ended with status 0" --callers __memset
check "profile: no counts" profile_refuses empty 1 "the plugin wrote nothing" --callers __memset
check "profile: counts that do not add up" profile_refuses differs 1 "add up to 33% more or less" --callers __memset
check "profile: a function that is not there" profile_refuses good 1 "kernel 6.12 has no function tcp_nonsense" --callers tcp_nonsense
