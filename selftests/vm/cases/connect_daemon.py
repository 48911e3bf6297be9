# SPDX-License-Identifier: Apache-2.0
"""connect() while daemons stand still, die, come back or are of another mesh: the table's last rows.

These restart daemons, so they come after what counts over all of the load, with a capture of their own.
"""
import os
import re
import resource
import select
import signal
import socket
import time

from lib.bed import MARKER
from lib.tap import case, check, equal, until

from .connect import (BUDGET_MS, FAMILIES, MODES, PATIENT, Row, dial, end_dial, held_state, jobs, judge, network, set_patience,
                      number, pair, refuse_binds, result, settle, start_dial)


def to_b(bed, options=""):
    return [Row("to-b", "?", "at-once", *pair(bed, "b", 5001), False, options)]


def expect(bed, code, when="at-once", options="", modes=MODES):
    """Connects to b in all ways; all must end like this."""
    table = [row._replace(code=code, when=when) for row in to_b(bed, options)]
    attempts, totals = dial(bed, "a", *jobs(table, modes))
    equal(len(attempts), len(modes) * len(FAMILIES), "connects")
    wrong = judge(table, attempts)
    check(not wrong, "\n".join(wrong))
    return f"slowest {totals['slowest']:.0f} ms"


def hold_some(bed, options=PATIENT, where=None):
    """Connects of all families that are being held (the peer's daemon stands still): the process."""
    already = bed.kmtls(1, "status")["flows"]["handshake"]
    process = start_dial(bed, "a", jobs(where or to_b(bed, options), ("blocking", "epoll")))
    until(lambda: bed.kmtls(1, "status")["flows"]["handshake"] >= already + 6, "six connects are held", 15)
    return process


class Stopped:
    """SIGSTOP for a daemon, keeper and worker, for the time of a with statement."""

    def __init__(self, bed, node):
        self.pids = bed.pids(node)

    def __enter__(self):
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)
        return self

    def __exit__(self, *_):
        for pid in self.pids:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass


@case("the capture begins anew", mesh=True)
def capture(bed):
    network(bed)
    if bed.capturing:
        bed.stop_capture()
    bed.start_capture()


@case("the remote daemon stands still: ETIMEDOUT in the application's own time; nothing remains", mesh=True,
      timeout=120)
def remote_stopped(bed):
    before = held_state(bed)
    with Stopped(bed, 2):
        said = expect(bed, "ETIMEDOUT", "budget")
        process = hold_some(bed)
        process.kill()
        process.communicate()
        until(lambda: bed.kmtls(1, "status")["flows"]["handshake"] == 0, "node 1 has given up what was killed", 5)
    settle(bed, before, 20)
    return said


@case("the local daemon stands still: ETIMEDOUT; held through a pause it succeeds", mesh=True, timeout=120)
def local_stopped(bed):
    before = held_state(bed)
    with Stopped(bed, 1):
        said = expect(bed, "ETIMEDOUT", "budget")
    settle(bed, before, 30)
    with Stopped(bed, 1):
        process = start_dial(bed, "a", jobs(to_b(bed, PATIENT)))
        time.sleep(2.5)
    attempts, _ = end_dial(process)
    for attempt in attempts:
        equal(result(attempt), "OK", str(attempt))
        check(attempt["ms"] > 2000, f"{attempt['id']} took only {attempt['ms']} ms")
    settle(bed, before, 30)
    return said


IMPOSTOR_PORTS = [("0.0.0.0", 15001), ("127.0.0.1", 15002), ("::", 15001), ("::", 15006)] + \
                 [("::", port) for port in range(15104, 16128)]


def listen_as_impostor():
    """In the agent: listeners wherever a turned connect might go."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    listeners = []
    for address, port in IMPOSTOR_PORTS:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, port != 16127)
        sock.bind((address, port))
        sock.listen(8)
        listeners.append(sock)
    listen_as_impostor.kept = listeners
    return len(listeners)


def impostors_got():
    ready = select.poll()
    for sock in listen_as_impostor.kept:
        ready.register(sock, select.POLLIN)
    got = len(ready.poll(0))
    for sock in listen_as_impostor.kept:
        sock.close()
    return got


@case("the local daemon is killed while SYNs are held, and stays dead: ECONNREFUSED; no impostor gets any of it",
      mesh=True, timeout=150)
def local_dead(bed):
    equal(bed.agent("a").call(listen_as_impostor), len(IMPOSTOR_PORTS), "impostors that listen")
    with Stopped(bed, 2):
        process = hold_some(bed)
        bed.testbed("kill", "1")
        start = time.monotonic()
        attempts, _ = end_dial(process, 60)
        took = time.monotonic() - start
    wrong = [str(attempt) for attempt in attempts if result(attempt) != "ECONNREFUSED"]
    check(not wrong, "\n".join(wrong))
    check(took < 20, f"after the daemon's death it took {took:.1f} s")
    said = expect(bed, "ECONNREFUSED")
    attempts, _ = dial(bed, "a", *(f"id={family},to={to}" for family, to in zip((4, 6), number(4, 80))))
    equal([result(attempt) for attempt in attempts], ["ECONNREFUSED"] * 2, "connects elsewhere, without a daemon")
    equal(bed.agent("a").call(impostors_got), 0, "impostors that were connected to")
    refuse_binds(bed)
    return f"held ones were refused after {took:.1f} s; new ones: {said}"


def root_of(bed, node, path):
    """Makes the node use another root from its next start on; what it used before."""
    config = f"{bed.env['state']}/n{node}.yaml"
    with open(config, encoding="ascii") as file:
        text = file.read()
    with open(config, "w", encoding="ascii") as file:
        file.write(re.sub(r"root_file: \S+", f"root_file: {path}", text))
    return re.search(r"root_file: (\S+)", text).group(1)


@case("a node of another mesh (its own root): ECONNREFUSED, for both directions", mesh=True, timeout=150)
def other_mesh(bed):
    bed.testbed("kill", "1")
    own = root_of(bed, 1, bed.dir + "/other-root.pem")
    try:
        bed.testbed("start", "1")
        counted = bed.counters(1), bed.counters(2)
        said = expect(bed, "ECONNREFUSED", options=PATIENT)
        attempts, _ = dial(bed, "b", f"id=back,to={bed.at('a', 5650)},{PATIENT}",
                           f"id=back6,to={bed.at('c', 5001, 6)},{PATIENT}")
        equal([result(attempt) for attempt in attempts], ["ECONNREFUSED"] * 2, "connects from the other side")
        for node, name in ((1, "unknown-ca"), (2, "refused-unknown-ca"), (2, "unknown-ca"), (1, "refused-unknown-ca")):
            check(bed.counter(node, name) > counted[node - 1].get(name, 0), f"node {node} counted {name}")
    finally:
        root_of(bed, 1, own)
        bed.testbed("restart", "1")
    expect(bed, "OK", options=PATIENT)
    return said


@case("the local daemon is replaced while SYNs are held: success, or a truthful refusal, in bounded time", mesh=True,
      timeout=150)
def replaced(bed):
    start = time.monotonic()
    with Stopped(bed, 2):
        process = hold_some(bed, "syncnt=7")
        if bed.scale > 1:
            # Right after the SYNs of 7 s: the next are those of 15 s, and until then it is back.
            time.sleep(max(0, 7.3 - (time.monotonic() - start)))
        bed.testbed("kill", "1")
        bed.testbed("start", "1")
    attempts, _ = end_dial(process, 100)
    took = time.monotonic() - start
    ended = sorted({result(attempt) for attempt in attempts})
    check(set(ended) <= {"OK"} | ({"ECONNREFUSED"} if bed.scale == 1 else set()), "\n".join(map(str, attempts)))
    said = expect(bed, "OK", options=PATIENT)
    until(lambda: not bed.flows(1) and not bed.flows(2), "no flow remains", 30)
    before = held_state(bed)
    settle(bed, before)
    return f"{ended} within {took:.1f} s; afterwards {said}"


@case("the remote daemon is killed while SYNs are held, and stays dead: ECONNREFUSED; started again it works",
      mesh=True, timeout=150)
def remote_dead(bed):
    before = held_state(bed)[1]
    with Stopped(bed, 2):
        process = hold_some(bed)
        start = time.monotonic()
        bed.testbed("kill", "2")
    attempts, _ = end_dial(process, 60)
    took = time.monotonic() - start
    wrong = [str(attempt) for attempt in attempts if result(attempt) != "ECONNREFUSED"]
    check(not wrong, "\n".join(wrong))
    check(took < 25, f"after the daemon's death it took {took:.1f} s")
    said = expect(bed, "ECONNREFUSED")
    bed.testbed("start", "2")
    expect(bed, "OK", options=PATIENT)
    until(lambda: held_state(bed)[1] == before, f"node 1 holds what it held: {before}", 20)
    return f"held ones were refused after {took:.1f} s (with the kill); new ones: {said}"


@case("the wire has shown no plaintext in all of this", mesh=True)
def wire(bed):
    bed.stop_capture()
    seen = bed.wirecheck(bed.capture, [MARKER], [bed.env["excluded_port"]])
    equal((seen["found"][MARKER], seen["plaintext"]), (0, 0), f"markers, connections in the clear ({seen['example']})")
    check(seen["tls"] > 0, "no TLS connection seen")
    os.unlink(bed.capture)
    set_patience(bed, 6, 4)  # of the cases that come after this
    return f"{seen['tls']} TLS connections, {BUDGET_MS} ms was the pods' patience"
