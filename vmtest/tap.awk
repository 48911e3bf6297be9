# SPDX-License-Identifier: Apache-2.0
#
# Judges what a test program printed: TAP (Test Anything Protocol), read strictly, so that a run
# which ended early or printed nothing cannot look like a good one. Stdin may hold several TAP
# documents one after the other (cmocka prints one for each group); a plan may come first or last.
#
#   awk -v step=NAME -v status=EXIT_STATUS -f vmtest/tap.awk <OUTPUT
#
# Prints, tab-separated: "fail NAME", followed by its "diag TEXT" lines; "skip NAME REASON"; "left
# KERNEL CASES" for what selftests/vm/run has left to another kernel, which is no result of this run; and
# at the end "count PASSED FAILED SKIPPED". What is wrong with the run as a whole is a failure too.
# "not ok ... # TODO" is a failure; "not ok ... # SKIP" (cmocka 1.1) is a skip.

BEGIN {
	OFS = "\t"
	plan = -1 # of the open document; -1: none seen
	max_notes = 40
}

{ sub(/\r$/, "") }

/^1\.\.[0-9]+([ \t]*#.*)?$/ {
	flush_result()
	number = substr($0, 4) + 0
	documents++
	if (plan < 0 && results > 0) { # the plan at the end closes its document
		plan = number
		close_document()
	} else {
		if (plan >= 0)
			close_document()
		plan = number
		if (number == 0)
			run_fails("planned no test: " $0)
	}
	next
}

/^(not )?ok([ \t]|$)/ {
	flush_result()
	if ($0 !~ /^(not )?ok [0-9]+($|[ \t])/) {
		run_fails("malformed result: " $0)
		next
	}
	good = /^ok/
	text = $0
	sub(/^(not )?ok /, "", text)
	number = text + 0
	sub(/^[0-9]+[ \t]*(-[ \t]*)?/, "", text)
	# A complete document with its plan first may be followed by one with its plan last.
	if (plan >= 0 && results == plan && number == 1)
		close_document()
	results++
	if (number != results) {
		run_fails("result number " number " where " results " was due: " $0)
		results = number
	}
	judge(good, text)
	next
}

/^Bail out!/ {
	flush_result()
	run_fails($0)
	next
}

/^# left to kernel [^ ]+: [0-9]+ cases$/ {
	flush_result()
	print "left", substr($5, 1, length($5) - 1), $6
	next
}

/^[ \t]*#/ { note($0) }

END {
	flush_result()
	if (plan >= 0 || results > 0)
		close_document()
	if (!documents && !total)
		run_fails("no TAP at all: the run printed no plan and no result")
	if (status == 124)
		run_fails("time is up (exit status 124)")
	else if (status == 125)
		run_fails("the guest died, did not start, or its kernel complained (exit status 125)")
	else if (status >= 126)
		run_fails("the run could not be started, or was killed (exit status " status ")")
	else if (status != 0 && !failed)
		run_fails("exit status " status " although no test failed")
	print "count", passed + 0, failed + 0, skipped + 0
}

function judge(good, text,    at, directive) {
	directive = ""
	at = match(text, /[ \t]*#[ \t]*[Ss][Kk][Ii][Pp]/)
	if (at) {
		directive = substr(text, at + RLENGTH)
		sub(/^[A-Za-z]*:?[ \t]*/, "", directive)
		text = substr(text, 1, at - 1)
		if (text == "") { # cmocka: "# SKIP name"
			text = directive
			directive = ""
		}
		if (directive == "" && notes) { # cmocka has no place for a reason: the line before it
			directive = noted[notes]
			sub(/^[ \t]*#[ \t]*(skipped:)?[ \t]*/, "", directive)
		}
		skipped++
		print "skip", step ": " text, directive == "" ? "(no reason given)" : directive
	} else if (good) {
		passed++
	} else {
		failed++
		pending = text == "" ? "(test without a name)" : text
	}
	total++
	if (!pending)
		notes = 0
}

# Lines that begin with # explain the failure before them; if there are none, those before it.
function note(line) {
	if (pending && !after) {
		after = 1
		notes = 0
	}
	if (notes < max_notes)
		noted[++notes] = line
}

function flush_result(    i) {
	if (!pending)
		return
	print "fail", step ": " pending
	for (i = 1; i <= notes; i++)
		print "diag", noted[i]
	pending = ""
	after = notes = 0
}

function close_document() {
	if (plan < 0)
		run_fails("no plan: the run ended early, after " results " results")
	else if (results != plan)
		run_fails("planned " plan " tests, but there are " results " results")
	plan = -1
	results = 0
}

function run_fails(why) {
	failed++
	print "fail", step ": " why
}
