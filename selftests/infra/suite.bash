# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Tests of how selftests/vm/run chooses its cases by the kernel. Sourced by run. They run no case.

# suite SCRIPT: Python that has the library's tap, and run's choose().
suite() {
	run python3 -B - "$ROOT/selftests/vm" <<-END
		import importlib.machinery, importlib.util, os, sys, types
		sys.path.insert(0, sys.argv[1])
		from lib import tap
		loader = importlib.machinery.SourceFileLoader("run", sys.argv[1] + "/run")
		run = importlib.util.module_from_spec(importlib.util.spec_from_loader("run", loader))
		loader.exec_module(run)

		def chosen(release, long=False, only=(), plain=False):
		    """The names of the cases to run there, and of those that are left."""
		    run.os = types.SimpleNamespace(uname=lambda: types.SimpleNamespace(release=release))
		    cases, left = run.choose(types.SimpleNamespace(long=long, only=only), types.SimpleNamespace(plain=plain))
		    return [item.name for item in cases], dict(left)

		for name, kernel in (("setup.up", None), ("m.any", None), ("m.one", "6.12")):
		    tap.CASES.append(tap.Case(name, None, name, False, False, 1, kernel))
		$1
	END
}

suite_left() {
	suite '
everything = ["setup.up", "m.any", "m.one"]
for release in ("6.1.0-41-amd64", "6.1", "7.2.0-rc3"):
    assert chosen(release) == (everything[:2], {"6.12": ["m.one"]}), (release, chosen(release))
for release in ("6.12.57+deb13-amd64", "6.17.4", "5.10.0"):  # of the others nobody has it
    assert chosen(release) == (everything, {}), (release, chosen(release))
assert chosen("6.1.0", long=True) == (everything, {})
assert chosen("6.1.0", only=["m.one"]) == (["setup.up", "m.one"], {})
assert chosen("6.1.0", only=["m"]) == (everything, {})
'
	expect_status 0
}

suite_misspelt() {
	suite 'tap.case("a case", kernel="6.13")'
	expect_status 1
	expect_in stderr "kernel '6.13' is none of 6.1, 6.12, 7.2"
}

# What a case can be left to is what scripts/check boots.
suite_kernels() {
	suite 'print("\n".join(tap.KERNELS))'
	expect_status 0
	mv stdout known
	run "$ROOT/vmtest/kernels" all
	cut -d ' ' -f 1 stdout | cmp - known || fail "the matrix has $(<stdout), the cases know $(<known)"
}

# Without root and without a guest: every file can be read, and no kernel in it is misspelt.
suite_listed() {
	run "$ROOT/selftests/vm/run" --list
	expect_status 0
	grep -qE '^crash\.storm +[^ ]' stdout || fail "no crash.storm in the list"
	grep -qE '^cli\.completion +6\.12 ' stdout || fail "cli.completion is not listed as one for kernel 6.12"
}

check "suite: what is left to another kernel" suite_left
check "suite: a kernel that is misspelt" suite_misspelt
check "suite: the kernels are those of the matrix" suite_kernels
check "suite: the list of cases" suite_listed
