# shellcheck shell=bash disable=SC2034 # status is run's
# SPDX-License-Identifier: Apache-2.0
#
# Tests of scripts/check, run in a tree of stand-ins: a Makefile, a guest and tests that behave as
# the variable FAKE says. Sourced by run.

make_tree() {
	unset MAKEFLAGS MAKELEVEL # of a make that runs us
	mkdir -p tree/selftests/{vm,infra,fuzz} tree/.ci
	cp -r "$ROOT/scripts" "$ROOT/vmtest" tree/
	cp "$ROOT/.ci/run" tree/.ci/
	cat >tree/Makefile <<-'END'
		.RECIPEPREFIX := >
		all:
		>@echo building with $(CC)
		>@[ "$$FAKE" != no-$(CC) ] || { echo broken code >&2; exit 1; }
		lint:
		>@[ "$$FAKE" != no-lint ]
		unit:
		>@[ "$$CMOCKA_MESSAGE_OUTPUT" = TAP ] && echo 1..2 && echo ok 1 - u
		>@[ "$$FAKE" != unit-crash ] || kill -SEGV $$$$
		>@echo 'not ok 2 # SKIP v'
		agent:
	END
	cat >tree/scripts/setup <<-'END'
		#!/bin/sh
		! [ "$FAKE" = no-setup ]
	END
	cat >tree/selftests/infra/run <<-'END'
		#!/bin/sh
		echo 'ok 1 - i'; echo 1..1
	END
	cat >tree/selftests/fuzz/run <<-'END'
		#!/bin/sh
		echo 'ok 1 - f'
		[ "$FAKE" != finding ] || { echo 'not ok 2 - g'; echo 1..2; exit 1; }
		echo 1..1
	END
	cat >tree/selftests/vm/prepare <<-'END'
		#!/bin/sh
		! [ "$FAKE" = no-prepare ]
	END
	cat >tree/vmtest/vm <<-'END'
		#!/bin/bash
		trap 'echo gone >$TREE/ended; exit 143' TERM
		export KERNEL=$2
		while [[ $1 != -- ]]; do shift; done
		shift
		[[ $FAKE != never-boots ]] || { echo "vm: the guest died before it started" >&2; exit 125; }
		[[ $FAKE != hangs ]] || { echo started >$TREE/started; sleep 100 & wait $!; }
		"$@"
		rc=$?
		[[ $FAKE != dies-at-end ]] || exit 125
		exit $rc
	END
	cat >tree/selftests/vm/run <<-'END'
		#!/bin/bash
		echo 'ok 1 - a'
		echo "noise on stderr, not ok 2 - noise" >&2
		case $FAKE:$KERNEL in
		fails:6.12) echo 'not ok 2 - b'; echo '# because of c'; echo 1..2; exit 1 ;;
		skips:*) echo 'ok 2 - b # SKIP no quux'; echo 1..2 ;;
		no-plan:7.2) exit 0 ;;
		short:6.1) echo 1..2 ;;
		silent:*) ;;
		leaves:6.1) echo 1..1; echo '# left to kernel 6.12: 61 cases' ;;
		*) echo 1..1 ;;
		esac
		[[ ${1:-} != --long ]] || touch $TREE/long
	END
	chmod +x tree/scripts/setup tree/selftests/{infra,vm,fuzz}/run tree/selftests/vm/prepare tree/vmtest/vm
	export TREE=$PWD/tree
}

# check_says FAKE STATUS LAST_LINE [TEXT]...: what scripts/check makes of it.
check_says() {
	local fake=$1 expected=$2 last=$3 text
	shift 3
	make_tree
	run env -u O FAKE="$fake" CI=true tree/.ci/run
	expect_status "$expected"
	[[ $(tail -n 1 stdout) == "$last" ]] || fail "the last line is '$(tail -n 1 stdout)', not '$last'; of: $(tail -n 30 stdout)"
	for text; do
		expect_in stdout "$text"
	done
	expect_not_in stdout $'\e'
}

check_unattended() {
	make_tree
	run env -u O FAKE=good CI=true tree/scripts/check -k 6.1 0<&-
	expect_status 0
	[[ $(tail -n 1 stdout) == "9 passed, 0 failed, 1 skipped" ]] || fail "the last line is '$(tail -n 1 stdout)'"
}

# What one kernel leaves to another is told, and is no result.
check_left() {
	check_says leaves 0 "11 passed, 0 failed, 1 skipped" "vm-6.1: 61 cases left to kernel 6.12"
	expect_not_in stdout "which did not run"
	run env -u O FAKE=leaves tree/scripts/check --only vm -k 6.1
	expect_status 0
	expect_in stdout "vm-6.1: 61 cases left to kernel 6.12, which did not run"
	[[ $(tail -n 1 stdout) == "1 passed, 0 failed, 0 skipped" ]] || fail "the last line is '$(tail -n 1 stdout)'"
}

# The guest that takes longest begins as soon as it can, and the steps that are soon over come before the other guests.
check_order() {
	make_tree
	run env -u O FAKE=good KMTLS_CHECK_JOBS=1 tree/scripts/check
	expect_status 0
	[[ $(sed -n 's/^==> \([^:]*\):.*/\1/p' stdout | xargs) == "setup gcc prepare vm-6.12 clang lint unit vm-7.2 vm-6.1 infra fuzz" ]] ||
		fail "the order: $(grep '^==>' stdout)"
}

check_options() {
	make_tree
	run env -u O FAKE=good tree/scripts/check --only vm -k 6.12 -k 6.1 --long
	expect_status 0
	[[ $(tail -n 1 stdout) == "2 passed, 0 failed, 0 skipped" && -e tree/long ]] || fail "$(<stdout)"
	run env -u O tree/scripts/check --only nothing
	expect_status 2
	run env -u O tree/scripts/check -k 5.10
	expect_status 2
	run env -u O tree/scripts/check --frobnicate
	expect_status 2
}

# Interrupted while a guest hangs, it ends the guest and itself.
check_interrupted() {
	local pid tries=0
	status=0
	make_tree
	env -u O --default-signal=INT FAKE=hangs tree/scripts/check --only vm -k 6.1 >stdout 2>stderr &
	pid=$!
	while [[ ! -e tree/started ]]; do
		((tries++ < 100)) || fail "the guest was not started"
		sleep 0.1
	done
	kill "-$1" "$pid"
	wait "$pid" || status=$?
	expect_status "$2"
	tries=0
	while [[ ! -e tree/ended ]]; do
		((tries++ < 50)) || fail "the guest was not ended"
		sleep 0.1
	done
}

check_second_run() {
	make_tree
	mkdir -p tree/build/check
	exec 9>tree/build/check/.lock
	flock 9
	run env -u O FAKE=good tree/scripts/check --only lint 9>&-
	expect_status 1
	expect_in stderr "another scripts/check runs"
}

GOOD=5 # setup, gcc, clang, lint, prepare
check "check: all well" check_says good 0 "$((GOOD + 1 + 1 + 1 + 3)) passed, 0 failed, 1 skipped" "6.12: ok 1 - a" "SKIPPED unit: v"
check "check: skips in the guests" check_says skips 0 "11 passed, 0 failed, 4 skipped" "SKIPPED vm-7.2: b: no quux"
check "check: a test fails on one kernel" check_says fails 1 "11 passed, 1 failed, 1 skipped" "FAILED  vm-6.12: b" "# because of c"
check "check: a run without a plan" check_says no-plan 1 "11 passed, 1 failed, 1 skipped" "FAILED  vm-7.2: no plan"
check "check: a run that ended early" check_says short 1 "11 passed, 1 failed, 1 skipped" "FAILED  vm-6.1: planned 2"
check "check: results but no plan anywhere" check_says silent 1 "11 passed, 3 failed, 1 skipped" "FAILED  vm-6.1: no plan"
check "check: guests that never boot" check_says never-boots 1 "8 passed, 6 failed, 1 skipped" \
	"FAILED  vm-6.12: no TAP" "vm: the guest died before it started"
check "check: guests that die after the plan" check_says dies-at-end 1 "11 passed, 3 failed, 1 skipped" "exit status 125"
check "check: gcc's build fails" check_says no-gcc 1 "7 passed, 4 failed, 1 skipped" \
	"FAILED  gcc: exit status 2" "broken code" "FAILED  vm-6.1: not run, since gcc failed"
check "check: clang's build fails" check_says no-clang 1 "10 passed, 1 failed, 1 skipped" "FAILED  clang"
check "check: lint fails" check_says no-lint 1 "10 passed, 1 failed, 1 skipped" "FAILED  lint"
check "check: preparing the guests' tests fails" check_says no-prepare 1 "7 passed, 4 failed, 1 skipped" \
	"FAILED  vm-7.2: not run, since prepare failed"
check "check: setup fails" check_says no-setup 1 "0 passed, 11 failed, 0 skipped" "FAILED  unit: not run, since setup failed"
check "check: a unit test crashes" check_says unit-crash 1 "11 passed, 1 failed, 0 skipped" "FAILED  unit: planned 2"
check "check: a fuzzer finds something" check_says finding 1 "11 passed, 1 failed, 1 skipped" "FAILED  fuzz: g"
check "check: no terminal and no stdin" check_unattended
check "check: what is left to another kernel" check_left
check "check: the order of steps" check_order
check "check: options" check_options
check "check: interrupted (INT)" check_interrupted INT 130
check "check: interrupted (TERM)" check_interrupted TERM 143
check "check: a second run in the same checkout" check_second_run
