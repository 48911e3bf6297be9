# SPDX-License-Identifier: Apache-2.0
"""Flows outlive the daemon: workers are killed at every moment, and no application notices."""
import os
import re
import signal
import time

from lib import balance
from lib.bed import MARKER
from lib.tap import case, check, equal, until
from lib.traffic import BAD, Killer, Traffic

from .connect import dial, repeated, result
from .policy import connect_and_talk

# Both nodes have both roles, IPv4 and IPv6.
ROUTES = (("a", "b", 4), ("a", "b", 6), ("b", "a", 4), ("b", "a", 6))
RATE = 16384  # bytes a second, connection and direction: what an emulated guest can do for 50 connections


def starts(bed):
    return [bed.kmtls(node, "status").get("worker_starts", 0) for node in (1, 2)]


def together(bed):
    """A little of everything works."""
    for near, far, version in (("a", "b", 4), ("b", "a", 6), ("c", "d", 4)):
        connect_and_talk(bed.agent(near), bed.agent(far), bed.address(far, version), 5610, MARKER.encode())


@case("50 connections both ways while both workers are killed every 20 to 200 ms: not a byte is wrong",
      mesh=True, timeout=1200)
def storm(bed):
    together(bed)
    before, started = balance.take(bed), starts(bed)
    since = {node: bed.log_size(node) for node in (1, 2)}
    count = bed.part(150)
    # On a slow machine many are killed before they serve, which leaves much to be moved at the end.
    patience = 300 if bed.scale > 1 else 100
    with Traffic(bed, ROUTES, 13, RATE, patience=patience) as traffic:  # 52
        with Killer(bed, count=count, seed=int(time.time())) as killer:
            killed = killer.wait(count + 60)
        for node in (1, 2):
            bed.wait_worker(node)
        said = traffic.stop_whole(patience + 50)
    equal([found["killed"] for found in killed], [count, count], "workers killed on the nodes")
    for node, now in enumerate(starts(bed)):
        check(now - started[node] >= count, f"node {node + 1} says it has started {now - started[node]} workers")
    for node in (1, 2):  # a loop that has much to move still answers
        check("worker hangs" not in bed.log(node, since[node]), f"a worker of node {node} was taken for one that hangs")
    balance.settle(bed, before)
    together(bed)
    return f"{said}; killed {killed}"


@case("the same while the daemon is upgraded every second (kmtls upgrade)", mesh=True, timeout=2700)
def upgrades(bed):
    together(bed)
    before = balance.take(bed)
    keepers = set()
    count = 50 if bed.scale > 1 else bed.part(3)
    with Traffic(bed, ROUTES, 13 if bed.scale > 1 else 4, RATE) as traffic:
        slowest = 0
        for _ in range(count):
            start = time.monotonic()
            for node in (1, 2):
                bed.testbed("upgrade", str(node))
                keepers.add((node, bed.daemon_pid(node)))
            slowest = max(slowest, time.monotonic() - start)
            time.sleep(max(0, 1 - (time.monotonic() - start)))
        said = traffic.stop_whole()
    balance.settle(bed, before)
    together(bed)
    return f"{said}; {count} upgrades of both, slowest {slowest:.1f} s, {len(keepers)} keepers"


@case("the same with a new daemon that takes over (kmtlsd --take-over)", mesh=True, timeout=1500)
def take_overs(bed):
    together(bed)
    before = balance.take(bed)
    count = 20 if bed.scale > 1 else 1
    with Traffic(bed, ROUTES, 4, RATE) as traffic:
        for _ in range(count):
            for node in (1, 2):
                former = bed.daemon_pid(node)
                bed.testbed("take-over", str(node))
                check(bed.daemon_pid(node) != former and bed.wait_worker(node), f"another keeper on node {node}")
        said = traffic.stop_whole()
    balance.settle(bed, before)
    together(bed)
    return said


@case("new connections while a worker is killed every two seconds: none fails, none is in the clear", mesh=True,
      timeout=400)
def new_connections(bed):
    """Fewer than one in a thousand may fail, and then with a reason in a log."""
    bed.serve("b", "c", "d")
    capture = bed.dir + "/crash.pcap"
    before = balance.take(bed)
    since = {node: bed.log_size(node) for node in (1, 2)}
    taken = bed.listen_on_wire("wire", "br0", capture)
    seconds = 120 if bed.scale > 1 else 12
    with Killer(bed, interval=(3900, 4100)) as killer:
        failed, totals = dial(bed, "a", *repeated(bed), seconds=seconds, quiet=True, timeout=seconds + 90)
        killed = killer.end()
    bed.stop_listening(taken)
    tried = sum(totals["totals"].values())
    wanted = 1000 if bed.scale > 1 else 40
    check(tried >= wanted, f"only {tried} connects in {seconds} s")
    check(sum(found["killed"] for found in killed) >= seconds // 4, f"workers killed: {killed}")
    check(1000 * len(failed) < tried, f"{len(failed)} of {tried} failed: {[(each['id'], result(each)) for each in failed[:9]]}")
    reasons = sum(len(re.findall(r"reason=", bed.log(node, since[node]))) for node in (1, 2))
    check(reasons >= len(failed), f"{len(failed)} failures, {reasons} reasons in the logs")
    seen = bed.wirecheck(capture, [MARKER], [bed.env["excluded_port"]])
    equal((seen["found"][MARKER], seen["plaintext"]), (0, 0), f"markers, connections in the clear ({seen['example']})")
    check(seen["tls"] >= wanted / 2, f"only {seen['tls']} TLS connections seen")
    os.unlink(capture)
    balance.settle(bed, before)
    return f"{tried} connects, {totals['totals']}, slowest {totals['slowest']:.0f} ms; killed {killed}"


@case("keeper and worker are killed together in mid-transfer: both applications are reset; restarted, all is clean",
      mesh=True, timeout=120)
def both_killed(bed):
    together(bed)
    with Traffic(bed, ROUTES, 4, RATE, patience=15) as traffic:
        time.sleep(1)
        bed.testbed("kill", "1")
        sides = traffic.stop()
    for found, error in sides:
        equal({name: found[name] for name in ("ok", *BAD) if found[name]}, {"resets": traffic.total},
              f"how the connections ended ({error})")
    until(lambda: not bed.flow_totals(2)["established"], "node 2 has no flow left", 10)
    bed.testbed("start", "1")
    bed.wait_worker(1)
    equal([bed.flow_totals(node)["established"] for node in (1, 2)], [0, 0], "flows after the restart")
    equal(sorted(pod["name"] for pod in bed.kmtls(1, "pod", "list")), ["a", "c"], "pods of node 1")
    together(bed)


def hide(path):
    os.rename(path, path + ".away")


@case("a worker is killed while its identity source is away: the next one hands out the same identities", mesh=True,
      timeout=120, kernel="6.12")
def source_away(bed):
    root = bed.env["state"] + "/root.pem"
    together(bed)
    hide(root)
    try:
        for node in (1, 2):
            bed.kill_worker(node)
        together(bed)
    finally:
        os.rename(root + ".away", root)
    config = f"{bed.env['state']}/n1.yaml"
    with open(config, encoding="ascii") as file:
        text = file.read()
    check("root_file" in text, "the testbed's root is a file")
    with open(config, "w", encoding="ascii") as file:
        file.write(re.sub(r"(?m)^ *root_file: .*\n", "", text))
    try:
        bed.testbed("restart", "1")  # the root is in memory now
        for _ in range(2):
            connect_and_talk(bed.agent("a"), bed.agent("c"), bed.address("c"), 5611, MARKER.encode())
            connect_and_talk(bed.agent("c"), bed.agent("a"), bed.address("a", 6), 5611, MARKER.encode())
            bed.kill_worker(1)
    finally:
        with open(config, "w", encoding="ascii") as file:
            file.write(text)
        bed.testbed("restart", "1")
    together(bed)


@case("a worker that stands still can be killed as well, and its flows go on", mesh=True, timeout=60)
def stopped_worker(bed):
    with Traffic(bed, (("a", "b", 4), ("b", "a", 6)), 2, RATE) as traffic:
        worker = bed.worker_pid(1)
        check(worker, "node 1 has a worker")
        os.kill(worker, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(worker, signal.SIGKILL)
        bed.wait_worker(1, worker)
        return traffic.stop_whole()
