# SPDX-License-Identifier: Apache-2.0
"""Before everything else: what must be installed, and the testbed."""
import os
import shutil
import time

from lib.tap import case, check, equal

PROGRAMS = ("ip", "nsenter", "tcpdump", "ss", "curl", "nginx", "redis-server", "redis-cli", "redis-benchmark",
            "iperf3", "psql", "dnsmasq", "dig", "wrk", "nft", "bpftool", "strace", "haproxy", "stunnel4", "wg")
TOOLS = ("enter", "serve", "load", "nonblocking", "wirecheck", "dial", "certify", "crosswise", "killer", "stepkill",
         "benchload", "ktls.so", "suites.so")


@case("every program the tests need is there")
def programs(bed):
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    os.environ["PATH"] = path
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    missing += [bed.tools + "/" + name for name in TOOLS if not os.access(bed.tools + "/" + name, os.X_OK)]
    missing += [bed.data + "/" + name for name in ("gocopy", "godial", "postgresql.tar", "bench-pki/server.pem") if not
                os.path.exists(bed.data + "/" + name)]
    if not bed.plain:
        missing += [bed.build + "/" + name for name in ("kmtlsd", "kmtls") if not
                    os.access(bed.build + "/" + name, os.X_OK)]
    check(not missing, f"missing: {', '.join(missing)} (scripts/setup --test, make, selftests/vm/prepare)")


@case("testbed up; commands are passed on as they are, and twice is refused")
def up(bed):
    start = time.monotonic()
    bed.up()
    bed.up_seconds = time.monotonic() - start
    words = ["a  b", "it's", "$HOME", "", "*", "x\ny"]
    out = bed.testbed("exec", "a", "--", "printf", "[%s]", *words)
    equal(out, "".join(f"[{word}]" for word in words), "what exec passed on")
    out = bed.testbed("exec", "d", "--", "sh", "-c", "exit 7", check=False)
    equal(out, "", "output of a failing command")
    contained = bed.testbed("exec", "b", "--", "cat", "/proc/self/cgroup")
    check(contained.strip().endswith("/kmtls-testbed/b"), f"exec runs in the cgroup of b, not {contained}")
    check("already" in bed.testbed("up", check=False), "a second up is refused with 'already'")
    check("up" in bed.testbed("status"), "status says it is up")
    return f"up takes {bed.up_seconds:.1f} s"


@case("pods reach each other, and the capture that is searched later has begun")
def warm_up(bed):
    bed.serve("b", "c", "d")
    if bed.watched:  # nobody would look at it, and in a long run it fills the memory
        bed.start_capture()
    for version in (4, 6):
        bed.load("a", "storm", "-s", bed.address("a", version), bed.at("b", 5001, version))
    bed.load("d", "storm", bed.at("c", 5001))
    if not bed.plain:
        time.sleep(1)
        bed.baseline = {node: (bed.descriptors(node), bed.flow_totals(node)) for node in (1, 2)}
