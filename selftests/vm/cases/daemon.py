# SPDX-License-Identifier: Apache-2.0
"""The daemon dies, comes back, is asked to go."""
import errno
import json
import os
import time

from lib.bed import MARKER
from lib.tap import case, check, equal, not_reached, until

from .policy import connect_and_talk
from .streams import REFUSED, pair, refusal


@case("kill -9 of a daemon: connections in progress are reset, never ended", mesh=True)
def killed_in_progress(bed):
    streams = [pair(bed, version, near, far, 5710 + version) for version, near, far in
               ((4, "a", "b"), (6, "a", "b"), (4, "b", "a"))]
    for client, server in streams:
        client.sendall(MARKER.encode())
        server.recv_exactly(len(MARKER))
    readers = [(end, end.start("recv_to_end")) for ends in streams for end in ends]
    time.sleep(0.3)
    since = bed.log_size(2)
    bed.testbed("kill", "1")
    for end, reader in readers:
        equal(end.agent.result(reader), (b"", errno.ECONNRESET), "how the connection ends")
    bed.wait_log(2, since, "reason=")


@case("a dead daemon: meshed connections are refused, all else goes on", mesh=True)
def dead(bed):
    for near, far, version in (("a", "b", 4), ("a", "b", 6), ("b", "a", 4), ("b", "a", 6), ("a", "c", 4)):
        listener = bed.agent(far).listen(bed.address(far, version), 5720)
        code, seconds = refusal(bed.agent(near), bed.address(far, version), 5720)
        check(code in REFUSED, f"{near} to {far}, IPv{version}: errno {code}, not ECONNREFUSED or ECONNRESET")
        check(seconds < 15, f"{near} to {far}, IPv{version}: it took {seconds:.1f} s")
        not_reached(listener, f"{near} to {far}, IPv{version}: got through")
    agent = bed.agent("a")
    for address in ("127.0.0.1", "::1", bed.address("a")):
        connect_and_talk(agent, agent, address, 5721, b"loopback")
    connect_and_talk(bed.agent("x"), bed.agent("n1"), bed.address("n1"), 5722, b"to the node")
    connect_and_talk(bed.agent("x"), bed.agent("b"), bed.address("b"), int(bed.env["excluded_port"]), b"excluded")
    connect_and_talk(bed.agent("d"), bed.agent("b"), bed.address("b"), 5723, b"on the other node")
    server = bed.agent("b").socket(2, 2)
    server.bind((bed.address("b"), 5724))
    client = agent.socket(2, 2)
    client.sendto(b"udp", (bed.address("b"), 5724))
    equal(server.recv(10), b"udp", "UDP")


@case("started again it serves the same pods at once", mesh=True)
def restarted(bed):
    bed.testbed("start", "1")
    equal(sorted(pod["name"] for pod in bed.kmtls(1, "pod", "list")), ["a", "c"], "pods of node 1")
    for near, far, version in (("a", "b", 4), ("a", "b", 6), ("b", "a", 4), ("b", "a", 6), ("a", "c", 4), ("c", "d", 4)):
        connect_and_talk(bed.agent(near), bed.agent(far), bed.address(far, version), 5725, MARKER.encode())


@case("SIGTERM resets what is open; after a restart it works again", mesh=True)
def stopped(bed):
    client, server = pair(bed, 4)
    client.sendall(b"x")
    server.recv_exactly(1)
    start = time.monotonic()
    bed.testbed("stop", "2")
    took = time.monotonic() - start
    check(took < 10, f"the daemon took {took:.1f} s to stop")
    for end in (client, server):
        equal(end.recv_to_end(), (b"", errno.ECONNRESET), "how the connection ends")
    code, _ = refusal(bed.agent("a"), bed.address("b"), 5001)
    check(code in REFUSED, f"errno {code} while it is stopped")
    bed.configure(2, "handshake_timeout", "2s")
    bed.testbed("start", "2")
    connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), 5726, MARKER.encode())


@case("an idle stranger is dropped after handshake_timeout", mesh=True)
def stranger_silent(bed):
    since = bed.log_size(2)
    start = time.monotonic()
    client = bed.agent("x").connect(bed.address("b"), 5002)
    answer, code = client.recv_to_end()
    check(len(answer) <= 7 and code in (0, errno.ECONNRESET), f"it got {answer!r} and errno {code}")
    took = time.monotonic() - start
    check(1.5 < took < 15, f"handshake_timeout is 2 s, it took {took:.1f} s")
    bed.wait_log(2, since, "reason=handshake-timeout")
    bed.configure(2, "handshake_timeout", "60s")


@case("connections go on while a daemon is restarted three times under load", mesh=True, timeout=100, kernel="6.12")
def restarts_under_load(bed):
    """Each connect is served or refused; none hangs, none is wrong, none is in the clear."""
    for _ in range(3):
        bed.testbed("restart", "2")
        result = bed.load("a", "storm", "-t", 10, "-r", 3, bed.at("b", 5001), bed.at("b", 5002, 6))
        equal(result["ok"], 30, "connects right after a restart")


@case("a pod that is deleted is left alone, and can come back", mesh=True)
def pod_deleted(bed):
    client, server = pair(bed, 4, "a", "d")
    client.sendall(b"x")
    server.recv_exactly(1)
    bed.kmtls(2, "pod", "del", "d")
    equal(client.recv_to_end(), (b"", errno.ECONNRESET), "a flow of the pod")
    equal([pod["name"] for pod in bed.kmtls(2, "pod", "list")], ["b"], "pods of node 2")
    connect_and_talk(bed.agent("x"), bed.agent("d"), bed.address("d"), 5727, b"not meshed any more")
    bed.kmtls(2, "pod", "add", "d", "--netns", "/run/netns/kt-d", "--cgroup", bed.env["cgroup"] + "/d", "--id",
              bed.env["d_id"])
    connect_and_talk(bed.agent("a"), bed.agent("d"), bed.address("d"), 5728, MARKER.encode())


def not_before(bed, name):
    return {pod["name"]: pod["svid_not_before"] for pod in bed.kmtls(1, "pod", "list")}[name]


def enrol_c(bed, pod_id):
    bed.kmtls(1, "pod", "add", "c", "--netns", "/run/netns/kt-c", "--cgroup", bed.env["cgroup"] + "/c", "--id", bed.env[pod_id])


@case("a pod that could not be enrolled again leaves nothing when it is removed", mesh=True)
def unenrolled_deleted(bed):
    pods = f"{bed.env['state']}/n1/pods"
    for name in os.listdir(pods):
        with open(f"{pods}/{name}", encoding="utf-8") as file:
            spec = json.load(file)
        if spec["name"] == "c":
            path = f"{pods}/{name}"
    client, server = pair(bed, 4, "c", "b", 5718)
    before, since = not_before(bed, "c"), bed.log_size(1)
    with open(path, encoding="utf-8") as file:
        spec = json.load(file)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**spec, "cgroup": "."}, file)
    bed.kill_worker(1)
    bed.wait_log(1, since, "pod not enrolled again", "pod=c")
    client.sendall(b"x")  # its flows go on
    equal(server.recv_exactly(1), b"x", "what arrives")
    bed.kmtls(1, "pod", "del", "c")
    equal([end.recv_to_end() for end in (client, server)], [(b"", errno.ECONNRESET)] * 2, "how the flow ends")
    until(lambda: not [flow for flow in bed.flows(1) if flow["self"]["address"] == bed.address("c")], "no flow is left", 3)
    enrol_c(bed, "c_id")
    check(not_before(bed, "c") > before, "its SVID is a new one")
    connect_and_talk(bed.agent("c"), bed.agent("b"), bed.address("b"), 5719, MARKER.encode())


@case("of two pods with one SPIFFE ID one is removed: the other's SVID is kept for the next worker", mesh=True)
def same_id(bed):
    bed.kmtls(1, "pod", "del", "c")
    enrol_c(bed, "a_id")
    bed.kill_worker(1)
    before = not_before(bed, "a")
    bed.kmtls(1, "pod", "del", "c")
    time.sleep(1.1)
    bed.kill_worker(1)
    equal(not_before(bed, "a"), before, "since when the SVID is valid")
    enrol_c(bed, "c_id")
    connect_and_talk(bed.agent("c"), bed.agent("b"), bed.address("b"), 5719, MARKER.encode())


@case("a daemon that is gone for good (--uninstall) leaves no pin and no program", mesh=True)
def uninstalled(bed):
    pins = f"{bed.env['pins']}/n2"
    check(os.listdir(pins), "there are pins before")
    bed.testbed("uninstall", "2")
    left = [os.path.join(base, name) for base, _, files in os.walk(pins) for name in files]
    equal(left, [], "pins left")
    until(lambda: not os.path.exists(pins) or not os.listdir(pins), "the directory is empty", 2)
    connect_and_talk(bed.agent("x"), bed.agent("b"), bed.address("b"), 5729, b"plain again")
    connect_and_talk(bed.agent("b"), bed.agent("x"), bed.address("x"), 5729, b"plain again")
