# shellcheck shell=bash disable=SC2034,SC2016 # status is run's; for other shells
# SPDX-License-Identifier: Apache-2.0
#
# Tests of vmtest/bench, run in a tree of stand-ins: a guest that says what it has measured as the variable FAKE
# wants it. Sourced by run.

make_bench_tree() {
	unset MAKEFLAGS MAKELEVEL # of a make that runs us
	mkdir -p tree/selftests/vm tree/scripts tree/build tree/docs
	cp -r "$ROOT/vmtest" "$ROOT/NEWS" tree/
	printf 'all:\n' >tree/Makefile
	cat >tree/scripts/setup <<-'END'
		#!/bin/sh
		! [ "$FAKE" = no-package ]
	END
	printf '#!/bin/sh\n' >tree/selftests/vm/prepare
	printf '#!/bin/sh\necho "kmtls pod add: --accel: unknown option" >&2\nexit 2\n' >tree/build/kmtls
	printf '#!/bin/sh\necho "kmtlsd 0.1.0"\necho "OpenSSL ${OPENSSL:-3.0.1}"\n' >tree/build/kmtlsd
	cat >tree/vmtest/vm <<-'END'
		#!/usr/bin/python3
		import json, os, sys
		sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/bench.d")
		from measure import plan
		fake = os.environ["FAKE"]
		if "--which" in sys.argv:
		    print("tcg")
		    sys.exit()
		if "--icount" not in sys.argv or "--time" in sys.argv:
		    sys.exit("instructions are not counted")
		quick = "--quick" in sys.argv
		only = sys.argv[sys.argv.index("--only") + 1:] if "--only" in sys.argv else []
		print(json.dumps({"facts": {"kernel": "6.12.0", "cpus": 1, "cpu": "none"}}), flush=True)
		for number, step in enumerate(plan.steps(only, quick)):
		    if fake == "dies" and number == 3:
		        os.abort()
		    print(json.dumps({"begin": step._asdict()}), flush=True)
		    if fake == "fails" and (step.arm, step.metrics[0]) == ("nginx", "rtt_16k"):
		        print(json.dumps({"failed": step._asdict(), "why": "nginx ended"}), flush=True)
		        continue
		    for metric in step.metrics:
		        if fake == "forgets" and (step.arm, metric) == ("stunnel", "mem_kernel_idle"):
		            continue
		        print(json.dumps({"result": {"arm": step.arm, "metric": metric, "unit": "instructions", "value": 123456.0 + number,
		                                     "runs": 3, "spread": 0.5}}), flush=True)
		print(json.dumps({"done": True}), flush=True)
	END
	chmod +x tree/scripts/setup tree/selftests/vm/prepare tree/build/kmtls tree/build/kmtlsd tree/vmtest/vm
}

# bench FAKE [OPTION]...
bench() {
	run env -u O -u KMTLS_ACCEL FAKE="$1" tree/vmtest/bench "${@:2}"
}

# Every arm and every metric, in the table, in results.json, and drawn.
bench_whole() {
	make_bench_tree
	bench good --out out
	expect_status 0
	expect_in stderr "kmtls-accel is left out: kmtls pod add has no option --accel"
	expect_in stderr " left"
	expect_in stdout "guest instructions"
	expect_not_in stdout $'\e'
	local arm metric name
	for arm in direct ktls kmtls nginx haproxy stunnel wireguard; do
		for metric in rtt_64 rtt_16k stream_64k_1 stream_64k_16 conn_full conn_resumed mem_user_idle mem_kernel_idle redis_p1 \
			redis_p16 wrk_small wrk_100k wrk_small_new wrk_100k_new pgbench; do
			expect_in out/results.json "{\"arm\": \"$arm\", \"metric\": \"$metric\", \"unit\": "
		done
	done
	for metric in conn_symmetric rtt_64_flows_10000 stream_64k_1_peers_100000 conn_full_flows_1 conn_full_loops_2; do
		expect_in out/results.json "{\"arm\": \"kmtls\", \"metric\": \"$metric\", "
	done
	for name in cost applications growth; do
		[[ $(head -c 4 "out/$name.png") == *PNG ]] || fail "$name.png is no PNG"
		expect_in "out/$name.svg" "</svg>"
	done
	run python3 -c 'import json; [cell["value"] + cell["runs"] for cell in json.load(open("out/results.json"))]'
	expect_status 0
}

# bench_misses FAKE TEXT...: the run fails, and says what is missing.
bench_misses() {
	local text
	make_bench_tree
	bench "$1" --quick --out out
	expect_status 1
	for text in "${@:2}"; do
		expect_in stderr "$text"
	done
	[[ -s out/results.json ]] || fail "what was measured is lost"
}

bench_names() {
	make_bench_tree
	bench good --only nginx nonsense
	expect_status 2
	expect_in stderr "no such arm or metric: nonsense"
	bench good --only kmtls-accel
	expect_status 1
	expect_in stderr "kmtls-accel is not available: kmtls pod add has no option --accel"
	bench good --list
	expect_status 0
	expect_in stdout "kmtls with sk_msg (not available: kmtls pod add has no option --accel)"
	bench no-package
	expect_status 1
	expect_in stderr "run scripts/setup --test"
}

bench_only() {
	make_bench_tree
	bench good --quick --only kmtls nginx rtt_64 --out out
	expect_status 0
	[[ $(grep -c '"arm"' out/results.json) == 2 ]] || fail "$(<out/results.json)"
}

bench_document() {
	make_bench_tree
	bench good --quick --out out
	expect_status 0
	bench good --document out
	expect_status 0
	expect_in tree/docs/performance.md "instructions that the guest executed, not time"
	expect_in tree/docs/performance.md "vmtest/bench --quick --out results"
	expect_in tree/docs/performance.md "64 B (\`rtt_64\`) | instructions |"
	expect_in tree/docs/performance.md "kmtls-accel: kmtls pod add has no option --accel"
	expect_not_in tree/docs/performance.md "The run is incomplete"
	expect_not_in tree/docs/performance.md "Where the instructions go"
	[[ -s tree/docs/performance/cost.svg && -s tree/docs/performance/results.json ]] || fail "$(ls tree/docs/performance)"
}

# Profiles that lie beside the results become a part of it.
bench_document_profile() {
	local arm value=100
	make_bench_tree
	bench good --quick --out out
	for arm in kmtls ktls; do
		cat >"out/profile-$arm-rtt_64.json" <<-END
			{"arm": "$arm", "metric": "rtt_64", "kernel": "6.12", "unit": "instructions", "measured": $value, "total": $value, "operations": 1,
			 "groups": {"TCP/IP": $((value - 5)), "zeroing of memory": 5}, "functions": [], "callers": {}}
		END
		value=50
	done
	bench good --document out
	expect_status 0
	expect_in tree/docs/performance.md "| TCP/IP | 95 | 45 | 95.0% |"
	expect_in tree/docs/performance.md "| all | 100 | 50 |  |"
	[[ -s tree/docs/performance/profile-ktls-rtt_64.json ]] || fail "$(ls tree/docs/performance)"
	rm out/profile-*
	bench good --document out
	expect_status 0
	expect_in tree/docs/performance.md "| all | 100 | 50 |  |"
}

# What is published says what it lacks.
bench_document_lacks() {
	make_bench_tree
	bench fails --quick --out out
	bench good --document out
	expect_status 0
	expect_in tree/docs/performance.md "**The run is incomplete**: it lacks, for one arm or all, \`rtt_16k\`."
}

# A run of a part, into what a whole one has left.
bench_again() {
	make_bench_tree
	bench good --quick --only kmtls nginx rtt_64 conn_full --out out
	bench good --quick --only kmtls conn_full conn_symmetric --out out --again
	expect_status 0
	[[ $(grep -c '"arm"' out/results.json) == 5 ]] || fail "$(<out/results.json)"
	python3 - <<-'END' || fail "$(<out/results.json)"
		import json
		cells = {(cell["arm"], cell["metric"]): cell["value"] for cell in json.load(open("out/results.json"))}
		again = json.load(open("out/run.json"))["again"]
		assert cells["kmtls", "conn_full"] == 123456 and cells["nginx", "conn_full"] == 123459, cells
		assert [one["cells"] for one in again] == [[["kmtls", "conn_full"], ["kmtls", "conn_symmetric"]]], again
	END
	bench good --document out
	expect_in tree/docs/performance.md "): \`kmtls\`, \`conn_full\`, \`conn_symmetric\`."
	bench good --quick --only kmtls conn_full --out out --again
	[[ $(grep -c '"date"' out/run.json) == 3 ]] || fail "$(<out/run.json)"
	bench good --only kmtls conn_full --out out --again
	expect_status 2
	expect_in stderr "the results in $PWD/out are of a quick run"
	bench good --only kmtls conn_full --out nowhere --again
	expect_status 2
	expect_in stderr "$PWD/nowhere has no results to add to"
}

# With another OpenSSL: built apart, told, and never put beside figures of this one.
bench_openssl() {
	make_bench_tree
	mkdir -p tree/build/with-9.9 dir/openssl-9.9
	sed 's/OPENSSL:-3.0.1/OPENSSL:-none/' tree/build/kmtlsd >tree/build/with-9.9/kmtlsd
	chmod +x tree/build/with-9.9/kmtlsd
	printf 'all:\n\t@echo "O=$(O) OPENSSL=$(OPENSSL)" >made\n' >tree/Makefile
	bench good --quick --only kmtls rtt_64 --out out --openssl dir/openssl-9.9
	expect_status 0
	expect_in tree/made "O=$PWD/tree/build/with-9.9 OPENSSL=$PWD/dir/openssl-9.9"
	expect_in stdout "kmtls with OpenSSL $PWD/dir/openssl-9.9"
	bench good --document out
	expect_in tree/docs/performance.md ", with OpenSSL $PWD/dir/openssl-9.9 |"
	bench good --quick --only kmtls rtt_64 --out out --again
	expect_status 1
	expect_in stderr "--again: openssl is 3.0.1, and was $PWD/dir/openssl-9.9"
}

check "bench: a whole run" bench_whole
check "bench: a part again" bench_again
check "bench: a step that fails" bench_misses fails "MISSING nginx rtt_16k: nginx ended" "1 of "
check "bench: a cell that is forgotten" bench_misses forgets "MISSING stunnel mem_kernel_idle" "1 of "
check "bench: a guest that dies" bench_misses dies "MISSING wireguard pgbench: the run ended before"
check "bench: names" bench_names
check "bench: a part" bench_only
check "bench: the document" bench_document
check "bench: the document with profiles" bench_document_profile
check "bench: the document of a run that failed" bench_document_lacks
check "bench: another OpenSSL" bench_openssl
