# SPDX-License-Identifier: Apache-2.0
"""Before everything else: what must be installed, the testbed's own cleanliness, the testbed."""
import os
import shutil
import signal
import subprocess
import time

from lib.bed import TESTBED
from lib.tap import case, check, equal

PROGRAMS = ("ip", "nsenter", "tcpdump", "ss", "curl", "nginx", "redis-server", "redis-cli", "redis-benchmark",
            "iperf3", "psql", "dnsmasq", "dig")
TOOLS = ("enter", "serve", "load", "nonblocking", "wirecheck")


@case("every program the tests need is there")
def programs(bed):
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    os.environ["PATH"] = path
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    missing += [bed.tools + "/" + name for name in TOOLS if not os.access(bed.tools + "/" + name, os.X_OK)]
    missing += [bed.data + "/" + name for name in ("gocopy", "postgresql.tar") if not
                os.path.exists(bed.data + "/" + name)]
    if not bed.plain:
        missing += [bed.build + "/" + name for name in ("kmtlsd", "kmtls") if not
                    os.access(bed.build + "/" + name, os.X_OK)]
    check(not missing, f"missing: {', '.join(missing)} (scripts/setup --test, make, selftests/vm/prepare)")


def traces(_bed):
    """All that a testbed could leave behind."""
    found = set()
    for base in ("/run/netns", "/sys/class/net", "/run"):
        if os.path.isdir(base):
            found |= {f"{base}/{name}" for name in os.listdir(base) if not name.startswith("kmtls-vm.")}
    for base in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/bpf"):
        if os.path.isdir(base):
            found |= {f"{base}/{name}" for name in os.listdir(base)}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    command = file.read()
            except OSError:
                continue
            if b"kmtls-testbed" in command or b"scripts/testbed" in command:
                found.add(command.decode(errors="replace"))
    return found


@case("testbed up, interrupted at any moment, leaves nothing behind", timeout=150)
def interrupted(bed):
    environment = dict(os.environ)
    if bed.plain:
        environment["KMTLS_TESTBED_NO_DAEMON"] = "1"
    before = traces(bed)
    start = time.monotonic()
    bed.testbed("up")
    whole = time.monotonic() - start
    bed.testbed("down")
    equal(traces(bed) ^ before, set(), "what up and down left or took")
    moments = 3 * bed.scale
    broken = 0
    for moment in range(moments):
        with open(bed.dir + "/interrupted.log", "ab") as log:
            process = subprocess.Popen([TESTBED, "up"], env=environment, stdout=log, stderr=log,
                                       stdin=subprocess.DEVNULL, start_new_session=True)
        time.sleep(whole * (moment + 0.5) / moments)
        os.killpg(process.pid, signal.SIGINT)
        status = process.wait(60)
        broken += status != 0
        if status == 0:  # it was quicker than we were
            bed.testbed("down")
        equal(traces(bed) ^ before, set(), f"what ^C at {moment + 0.5}/{moments} of up left or took (status {status})")
    check(broken, "not one 'up' was interrupted")
    return f"up takes {whole:.1f} s; {broken} of {moments} interrupted"


@case("testbed up; commands are passed on as they are, and twice is refused")
def up(bed):
    bed.up()
    words = ["a  b", "it's", "$HOME", "", "*", "x\ny"]
    out = bed.testbed("exec", "a", "--", "printf", "[%s]", *words)
    equal(out, "".join(f"[{word}]" for word in words), "what exec passed on")
    out = bed.testbed("exec", "d", "--", "sh", "-c", "exit 7", check=False)
    equal(out, "", "output of a failing command")
    contained = bed.testbed("exec", "b", "--", "cat", "/proc/self/cgroup")
    check(contained.strip().endswith("/kmtls-testbed/b"), f"exec runs in the cgroup of b, not {contained}")
    check("already" in bed.testbed("up", check=False), "a second up is refused with 'already'")
    check("up" in bed.testbed("status"), "status says it is up")


@case("pods reach each other, and the capture has begun")
def warm_up(bed):
    bed.serve("b", "c", "d")
    bed.start_capture()
    for version in (4, 6):
        bed.load("a", "storm", "-s", bed.address("a", version), bed.at("b", 5001, version))
    bed.load("d", "storm", bed.at("c", 5001))
    if not bed.plain:
        time.sleep(1)
        bed.baseline = {node: (bed.descriptors(node), bed.flow_totals(node)) for node in (1, 2)}
