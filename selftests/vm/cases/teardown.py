# SPDX-License-Identifier: Apache-2.0
"""The other modes of the whole, and its absence."""
import os
import subprocess
import time

from lib.tap import Skip, case, check, contains, equal

from .policy import connect_and_talk
from .setup import traces

NO_TLS = "/etc/modprobe.d/kmtls-vm.conf"
CONFIG = """node: no-tls
bpf_dir: /sys/fs/bpf/kmtls-no-tls
run_dir: {dir}/no-tls
control_socket: {dir}/no-tls/control.sock
cgroup: {cgroup}
identity:
  source: builtin
  trust_domain: example.org
"""


@case("testbed down leaves nothing behind")
def down(bed):
    bed.down()
    left = [name for name in traces(bed) if "kmtls" in name or "kt-" in name]
    equal(left, [], "left behind")
    contains(bed.testbed("status", check=False), "down", "status")
    bed.testbed("down")


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


@case("without the tls module kmtlsd does not start, and says how to load it", mesh=True)
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
