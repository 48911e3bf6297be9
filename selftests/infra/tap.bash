# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Tests of vmtest/tap.awk: what a run printed, and what it must be counted as. Sourced by run.

# judged OUTPUT STATUS COUNTS [TEXT]: COUNTS is "passed failed skipped"; TEXT must be in the report.
judged() {
	local counts
	printf '%b' "$1" | awk -v step=s -v status="$2" -f "$ROOT/vmtest/tap.awk" >report
	counts=$(sed -n 's/^count\t//p' report | tr '\t' ' ')
	[[ $counts == "$3" ]] || fail "counted as '$counts', not '$3': $(<report)"
	[[ ! ${4:-} ]] || expect_in report "$4"
}

check "tap: plan first" judged '1..2\nok 1 - a\nok 2 - b\n' 0 "2 0 0"
check "tap: plan last" judged 'ok 1 - a\nok 2 - b\n1..2\n' 0 "2 0 0"
check "tap: groups one after the other" judged '1..1\nok 1 - a\n1..2\nok 1 - b\nok 2 - c\nok 1 - d\n1..1\n' 0 "4 0 0"
check "tap: a failure and its explanation" judged \
	'# before\nok 1 - a\nnot ok 2 - b\n# because\n1..2\n' 1 "1 1 0" $'diag\t# because'
check "tap: a skip and its reason" judged 'ok 1 - a\nok 2 - b # SKIP no cat\n1..2\n' 0 "1 0 1" $'skip\ts: b\tno cat'
check "tap: a skip of cmocka" judged '1..2\nok 1 - a\nnot ok 2 # SKIP b\n' 0 "1 0 1" $'skip\ts: b'
check "tap: a skip of cmocka, with the reason before it" judged \
	'1..2\nok 1 - a\n# skipped: no cat\nnot ok 2 # SKIP b\n' 0 "1 0 1" $'skip\ts: b\tno cat'
check "tap: a failing TODO is a failure" judged 'not ok 1 - a # TODO later\n1..1\n' 0 "0 1 0"
check "tap: no plan" judged 'ok 1 - a\n' 0 "1 1 0" "no plan"
check "tap: fewer results than planned" judged 'ok 1 - a\n1..2\n' 0 "1 1 0" "planned 2"
check "tap: more results than planned" judged '1..1\nok 1 - a\nok 2 - b\n' 0 "2 1 0" "planned 1"
check "tap: a first group that ended early" judged '1..3\nok 1 - a\n1..1\nok 1 - b\n' 0 "2 1 0" "planned 3"
check "tap: nothing printed" judged '' 0 "0 1 0" "no TAP at all"
check "tap: only noise printed" judged 'hello\n# ok\n  ok 1 - indented\n' 0 "0 1 0" "no TAP at all"
check "tap: a plan of nothing" judged '1..0 # SKIP all\n' 0 "0 1 0" "planned no test"
check "tap: a result left out" judged 'ok 1 - a\nok 3 - c\n1..3\n' 0 "2 1 0" "where 2 was due"
check "tap: a malformed result" judged 'ok\nok 1 - a\n1..1\n' 0 "1 1 0" "malformed"
check "tap: bail out" judged 'ok 1 - a\nBail out! no kernel\n1..1\n' 0 "1 1 0" "Bail out"
check "tap: all well but the exit status" judged 'ok 1 - a\n1..1\n' 3 "1 1 0" "exit status 3"
check "tap: all well but the guest died" judged 'ok 1 - a\n1..1\n' 125 "1 1 0" "the guest died"
check "tap: all well but time was up" judged 'ok 1 - a\n1..1\n' 124 "1 1 0" "time is up"
check "tap: all well but a signal" judged 'ok 1 - a\n1..1\n' 139 "1 1 0" "exit status 139"
check "tap: a carriage return at the end of lines" judged 'ok 1 - a\r\n1..1\r\n' 0 "1 0 0"
check "tap: what was left to another kernel" judged \
	'ok 1 - a\n1..1\n# left to kernel 6.12: 61 cases\n# these are b, c\n' 0 "1 0 0" $'left\t6.12\t61'
check "tap: the last case failed, others were left" judged \
	'ok 1 - a\nnot ok 2 - b\n# because\n1..2\n# left to kernel 6.12: 61 cases\n' 1 "1 1 0" $'diag\t# because'
