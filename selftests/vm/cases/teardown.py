# SPDX-License-Identifier: Apache-2.0
"""The other modes of the whole, and its absence."""
import os
import signal
import subprocess
import time

from lib.bed import TESTBED
from lib.tap import Failure, Skip, case, check, contains, equal

from .policy import connect_and_talk
from .sandbox import check_refused

NO_TLS = "/etc/modprobe.d/kmtls-vm.conf"
CONFIG = """node: no-tls
bpf_dir: /sys/fs/bpf/kmtls-no-tls
run_dir: {dir}/no-tls
control_socket: {dir}/no-tls/control.sock
cgroup: {cgroup}
identity:
  trust_domain: example.org
  enabled: own
  backends: [{{name: own, type: builtin}}]
"""


def traces():
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


@case("the daemons' filters refused nothing, from their first start to their last", mesh=True)
def refused(bed):
    check_refused()


@case("testbed down leaves nothing behind")
def down(bed):
    bed.down()
    left = [name for name in traces() if "kmtls" in name or "kt-" in name]
    equal(left, [], "left behind")
    contains(bed.testbed("status", check=False), "down", "status")
    bed.testbed("down")


@case("testbed up, interrupted at any moment, leaves nothing behind", timeout=200, kernel="6.12")
def interrupted(bed):
    environment = dict(os.environ)
    if bed.plain:
        environment["KMTLS_TESTBED_NO_DAEMON"] = "1"
    before = traces()
    moments = 2 * bed.scale
    broken, seconds = 0, bed.up_seconds
    for attempt in range(4 * moments):
        part = (broken + 0.5) / moments
        with open(bed.dir + "/interrupted.log", "ab") as log:
            process = subprocess.Popen([TESTBED, "up"], env=environment, stdout=log, stderr=log,
                                       stdin=subprocess.DEVNULL, start_new_session=True)
        time.sleep(seconds * part)
        os.killpg(process.pid, signal.SIGINT)
        status = process.wait(60)
        if status == 0:  # it was quicker than we were, and than it was the first time
            bed.testbed("down")
            seconds /= 2
        broken += status != 0
        equal(traces() ^ before, set(), f"what ^C at {part} of up left or took (status {status})")
        if broken == moments:
            return f"{broken} interrupted in {attempt + 1} attempts"
    raise Failure(f"only {broken} of {moments} interrupted")


@case("mode off: nothing is intercepted", mesh=True)
def mode_off(bed):
    bed.up("--mode", "off")
    for version in (4, 6):
        for near, far in (("a", "b"), ("x", "b"), ("a", "x")):
            connect_and_talk(bed.agent(near), bed.agent(far), bed.address(far, version), 5730, b"mode off")
    for node in (1, 2):
        counts = bed.counters(node)
        equal([counts.get(name, 0) for name in ("intercepted", "steered", "established")], [0, 0, 0], "counters")
    bed.down()


@case("without the tls module kmtlsd does not start, and says how to load it", mesh=True, kernel="6.12")
def no_tls(bed):
    if not os.path.exists("/run/vmtest"):
        raise Skip("takes the tls module from the machine, so only in a guest")
    with open(NO_TLS, "w", encoding="ascii") as file:
        file.write("install tls /bin/false\n")
    cgroup = os.path.dirname(bed.env["cgroup"]) + "/kmtls-no-tls"
    config = bed.dir + "/no-tls.yaml"
    os.makedirs(bed.dir + "/no-tls", exist_ok=True)
    with open(config, "w", encoding="ascii") as file:
        file.write(CONFIG.format(dir=bed.dir, cgroup=cgroup))
    try:
        for _ in range(50):  # the last sockets go when the kernel gets to it
            done = subprocess.run(["rmmod", "tls"], capture_output=True, text=True, check=False)
            if not done.returncode or "not" in done.stderr and "loaded" in done.stderr:
                break
            time.sleep(0.2)
        check(not os.path.exists("/sys/module/tls"), f"rmmod tls: {done.stderr}")
        done = subprocess.run([bed.build + "/kmtlsd", "--config", config], capture_output=True, text=True, timeout=20,
                              stdin=subprocess.DEVNULL, check=False)
    finally:
        os.unlink(NO_TLS)
        subprocess.run(["modprobe", "tls"], check=False)
    check(done.returncode > 0, f"it ends with status {done.returncode}")
    contains(done.stderr, "modprobe tls", "what it says")
    check("ready" not in done.stderr, "it does not claim to be ready")
    pins = "/sys/fs/bpf/kmtls-no-tls"
    check(not os.path.exists(pins) or not os.listdir(pins), "it left no pins")
    if os.path.isdir(cgroup):
        os.rmdir(cgroup)
