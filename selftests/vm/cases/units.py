# SPDX-License-Identifier: Apache-2.0
"""The unit tests that need kernel TLS, and all of root's power, which the machine
that builds may lack: here it is a failure."""
import os
import re
import subprocess

from lib.tap import case, check

TESTS = ("test_ktls", "test_handover", "test_rekey", "test_rekey_crash", "test_relay", "test_sandbox", "test_expiry", "test_listener",
         "test_accel")


@case("unit tests of kernel TLS, of the hand-over, of the sandbox, of bound listeners and of sk_msg, none left out", timeout=300)
def kernel_tls(bed):
    passed = 0
    for name in TESTS:
        done = subprocess.run([f"{bed.build}/unit/{name}"], capture_output=True, text=True, check=False,
                              env={**os.environ, "KMTLS_REQUIRE_KTLS": "1", "KMTLS_REQUIRE_ROOT": "1"})
        text = done.stdout + done.stderr
        check(done.returncode == 0 and "SKIP" not in text and not re.search(r"^not ok", text, re.M), text)
        count = len(re.findall(r"^ok \d+", text, re.M))
        check(count > 0, f"{name} ran no test: {text}")
        passed += count
    return f"{passed} tests"
