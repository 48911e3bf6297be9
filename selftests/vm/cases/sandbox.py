# SPDX-License-Identifier: Apache-2.0
"""What a daemon has given up, as the kernel tells it, and that it misses none of it."""
import os
import re
import subprocess

from lib.bed import ROOT
from lib.tap import case, check, equal, until

from .policy import connect_and_talk

# By number, from linux/capability.h. docs/security.md says what each is for.
CAPABILITIES = {"NET_BIND_SERVICE": 10, "NET_ADMIN": 12, "NET_RAW": 13, "SYS_PTRACE": 19, "SYS_ADMIN": 21}
KEPT = sum(1 << number for number in CAPABILITIES.values())


def status_of(path):
    with open(path, encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


@case("every thread of a daemon is filtered, has the documented capabilities and no way to others", mesh=True)
def threads(bed):
    count = 0
    for node in (1, 2):
        pid = bed.worker_pid(node)
        for thread in os.listdir(f"/proc/{pid}/task"):
            status = status_of(f"/proc/{pid}/task/{thread}/status")
            who = f"thread {thread} ({status['Name']}) of node {node}"
            equal(status["Seccomp"].strip(), "2", f"Seccomp of {who}")
            equal(status["NoNewPrivs"].strip(), "1", f"NoNewPrivs of {who}")
            for name, wanted in (("CapEff", KEPT), ("CapPrm", KEPT), ("CapBnd", KEPT), ("CapInh", 0), ("CapAmb", 0)):
                equal(f"{int(status[name], 16):x}", f"{wanted:x}", f"{name} of {who}")
            count += 1
    check(count > 4, f"only {count} threads")
    return f"{count} threads"


@case("docs/security.md names these capabilities and no other", mesh=True, kernel="6.12")
def documented(bed):
    with open(ROOT + "/docs/security.md", encoding="utf-8") as file:
        table = re.findall(r"(?m)^\| `CAP_(\w+)` \|", file.read())
    equal(sorted(table), sorted(CAPABILITIES), "the table's")


@case("a worker may be killed for memory, its keeper may not", mesh=True)
def oom(bed):
    for node in (1, 2):
        for pid, wanted in ((bed.daemon_pid(node), -1000), (bed.worker_pid(node), 0)):
            with open(f"/proc/{pid}/oom_score_adj", encoding="ascii") as file:
                equal(int(file.read()), wanted, f"oom_score_adj of process {pid} on node {node}")


@case("a pod is enrolled by the /proc/PID/ns/net of another user's process", mesh=True)
def other_users_namespace(bed):
    process = bed.spawn("d", "sleep", "1000", user="nobody")
    until(lambda: status_of(f"/proc/{process.pid}/status")["Uid"].startswith("65534") and
          os.readlink(f"/proc/{process.pid}/exe").endswith("sleep"), "the process is nobody's")
    bed.kmtls(2, "pod", "del", "d")
    bed.kmtls(2, "pod", "add", "d", "--netns", f"/proc/{process.pid}/ns/net", "--cgroup", bed.env["cgroup"] + "/d",
              "--id", bed.env["d_id"])
    connect_and_talk(bed.agent("a"), bed.agent("d"), bed.address("d"), 5760, b"meshed")
    bed.kmtls(2, "pod", "del", "d")
    bed.kmtls(2, "pod", "add", "d", "--netns", "/run/netns/kt-d", "--cgroup", bed.env["cgroup"] + "/d", "--id",
              bed.env["d_id"])
    process.kill()
    process.wait()


@case("an application's own port below 1024 is also the wire's", mesh=True)
def low_port(bed):
    server = bed.agent("b").listen(bed.address("b"), 5761)
    client = bed.agent("a").socket(2, 1)
    client.bind((bed.address("a"), 800))
    client.connect((bed.address("b"), 5761))
    equal(server.accept()[1][:2], (bed.address("a"), 800), "what the server sees")


def check_refused():
    log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    refused = re.findall(r"type=1326 [^\n]*comm=\"kmtlsd[^\n]*", log)
    equal(refused, [], "refused calls")
    equal(re.findall(r"audit: [^\n]*(?:lost|exceeded|suppressed)[^\n]*", log), [], "lines lost by the kernel's log")


@case("the daemons' filters refused nothing so far", mesh=True)
def nothing_refused(bed):
    check_refused()
