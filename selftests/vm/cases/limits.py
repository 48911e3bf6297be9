# SPDX-License-Identifier: Apache-2.0
"""What the daemon has only so much of: handshakes, slots, descriptors, pipes, memory.

Each time: who is over the limit is refused soon, as what it is, and counted; who is not goes on; and
when there is room again all is as before. The daemon of node 2 is restarted with limits low enough.
"""
import contextlib
import errno
import os
import re
import resource
import select
import socket
import time

from lib.bed import MARKER
from lib.tap import case, check, equal, until

from .policy import connect_and_talk
from .streams import BIG, REFUSED, pair

_held = []


def hold(address, port, count, source=None, kept=None):
    """In an agent: opens connections, says nothing; how many are open after a moment (or, of those that
    should be kept, at last), and the errnos of those that are not. One at a time, so that no backlog is
    full."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    errors, opened = [], []
    for _ in range(count):
        sock = socket.socket(family)
        sock.settimeout(20)
        if source:
            sock.bind((source, 0))
        code = sock.connect_ex((address, port))
        if code:
            errors.append(code)
        else:
            opened.append(sock)
    until_quiet = time.monotonic() + 1.5
    patience = time.monotonic() + 20
    while time.monotonic() < (until_quiet if kept is None or len(opened) <= kept else patience):
        for sock in select.select(opened, [], [], 0.2)[0]:
            try:
                errors.append(0 if sock.recv(1) == b"" else -1)
            except OSError as error:
                errors.append(error.errno)
            opened.remove(sock)
    _held.extend(opened)
    return len(opened), errors


def release():
    while _held:
        _held.pop().close()


@contextlib.contextmanager
def limited(bed, node, text):
    """The node's daemon runs with these lines in its configuration."""
    path = f"{bed.env['state']}/n{node}.yaml"
    with open(path, encoding="ascii") as file:
        before = file.read()
    keys = set(re.findall(r"(?m)^(\w+):", text))
    kept = "".join(line for line in before.splitlines(True) if line.split(":")[0] not in keys)
    with open(path, "w", encoding="ascii") as file:
        file.write(kept + text + "\n")
    bed.testbed("restart", str(node))
    try:
        yield
    finally:
        with open(path, "w", encoding="ascii") as file:
            file.write(before)
        bed.testbed("restart", str(node))


def refused_lines(bed, node, since, reason):
    """Log lines of a reason, and how many more were left out."""
    text = bed.log(node, since)
    lines = len(re.findall(rf'msg="connection refused".* reason={reason} ', text))
    left_out = sum(map(int, re.findall(rf"reason={reason} suppressed=(\d+)", text)))
    return lines, left_out


@case("handshakes of one source: those beyond the limit are reset and counted; another source is served", mesh=True,
      kernel="6.12")
def per_source(bed):
    with limited(bed, 2, "limits: {handshakes_per_source: 20, refusal_lines: 5}"):
        stranger = bed.agent("x")
        bed.run("x", "ip", "-6", "address", "add", "fd89::99/64", "dev", "eth0", "nodad")
        try:
            for version in (4, 6):
                since, before = bed.log_size(2), bed.counter(2, "too-many-handshakes")
                address = bed.address("b", version)
                held, errors = stranger.call(hold, address, 5001 + version % 4, 12)
                equal((held, errors), (12, []), f"IPv{version}: below the limit")
                # Another address of the same /64 is the same source; another IPv4 address is not.
                held, errors = stranger.call(hold, address, 5001, 48, "fd89::99" if version == 6 else None)
                equal((held, set(errors)), (8, {errno.ECONNRESET}), f"IPv{version}: at the limit")
                equal(bed.flow_totals(2)["handshake"], 20, "handshakes in progress")
                until(lambda: bed.counter(2, "too-many-handshakes") == before + 40, "each is counted", 3)
                start = time.monotonic()
                connect_and_talk(bed.agent("a"), bed.agent("b"), address, 5810, MARKER.encode())
                took = time.monotonic() - start
                check(took < 3, f"another source waits {took:.1f} s")
                until(lambda: sum(refused_lines(bed, 2, since, "too-many-handshakes")) == 40, "lines add up", 4)
                lines, _ = refused_lines(bed, 2, since, "too-many-handshakes")
                check(lines <= 20, f"{lines} lines: at most five a second were to be written")
                stranger.call(release)
                until(lambda: not bed.flow_totals(2)["handshake"], "those who left are not counted any more", 5)
                held, errors = stranger.call(hold, address, 5001, 20)
                equal((held, errors), (20, []), f"IPv{version}: room again")
                stranger.call(release)
                until(lambda: not bed.flow_totals(2)["handshake"], "none is left", 5)
        finally:
            bed.run("x", "ip", "-6", "address", "del", "fd89::99/64", "dev", "eth0")
    return f"{lines} lines for the last 40 refusals"


@case("handshakes of all sources together", mesh=True, kernel="6.12")
def total(bed):
    with limited(bed, 2, "limits: {handshakes_per_source: 20, handshakes: 30}"):
        since = bed.log_size(2)
        equal(bed.agent("x").call(hold, bed.address("b"), 5001, 20), (20, []), "the first source")
        held, errors = bed.agent("n1").call(hold, bed.address("b"), 5001, 20)
        equal((held, errors), (10, [errno.ECONNRESET] * 10), "the second source")
        bed.wait_log(2, since, "reason=too-many-handshakes", 'detail="of all sources"')
        for name in ("x", "n1"):
            bed.agent(name).call(release)
        until(lambda: not bed.flow_totals(2)["handshake"], "none is left", 5)
        connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), 5811, MARKER.encode())


@case("the flow table: a pod gets its share, whichever loop accepts; the rest is for others", mesh=True, kernel="6.12")
def flows(bed):
    bed.serve("b", "d")
    with limited(bed, 2, "max_flows: 64"):
        counted = bed.counters(2)

        def count(name):
            return bed.counter(2, name) - counted.get(name, 0)

        client = bed.agent("a")
        # In handshake or established, a slot is a slot: half of them for one pod.
        held, errors = bed.agent("x").call(hold, bed.address("b"), 5001, 20)
        equal((held, errors), (20, []), "a stranger's")
        held, errors = client.call(hold, bed.address("b"), 5002, 20)
        equal(held, 12, "the pod's share is 32")
        check(len(errors) == 8 and set(errors) <= set(REFUSED), f"the rest is refused: {errors}")
        # A client tries a reset once more, and that is refused, too.
        equal(count("pod-limit"), 16, "counter pod-limit")
        equal(bed.flow_totals(2), {"capacity": 64, "handshake": 20, "established": 12, "closing": 0}, "flows")
        connect_and_talk(client, bed.agent("d"), bed.address("d"), 5812, b"another pod")
        held, errors = client.call(hold, bed.address("d"), 5003, 40)
        equal((held, len(errors)), (32, 8), "the other pod's share")
        equal((count("table-full"), count("pod-limit")), (16, 16), "both shares are the whole table")
        equal(bed.flow_totals(2)["established"] + bed.flow_totals(2)["handshake"], 64, "all slots are used")
        client.call(release)
        bed.agent("x").call(release)
        until(lambda: bed.flow_totals(2) == {"capacity": 64, "handshake": 0, "established": 0, "closing": 0},
              "all slots are free", 10)
        connect_and_talk(client, bed.agent("b"), bed.address("b"), 5813, MARKER.encode())


@case("the flow table is full: refused and counted, whoever it is", mesh=True, kernel="6.12")
def table_full(bed):
    with limited(bed, 2, "max_flows: 64\nlimits: {flows_per_pod: 0}"):
        before = bed.counter(2, "table-full")
        held, errors = bed.agent("x").call(hold, bed.address("b"), 5001, 80)
        equal((held, errors), (64, [errno.ECONNRESET] * 16), "connections that are open, and how the others end")
        equal(bed.counter(2, "table-full"), before + 16, "counter table-full")
        bed.agent("x").call(release)
        until(lambda: not bed.flow_totals(2)["handshake"], "none is left", 5)


def worker_pid(bed, node):
    """Of the process that does the work; the keeper that started it shares its descriptors."""
    keeper = bed.daemon_pid(node)
    with open(f"/proc/{keeper}/task/{keeper}/children", encoding="ascii") as file:
        return int(file.read().split()[0])


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def few_descriptors(bed, node, room):
    """The daemon may open this many more."""
    pid = worker_pid(bed, node)

    def settled():  # what cases before this one began may still be ending
        before = set(map(int, os.listdir(f"/proc/{pid}/fd")))
        time.sleep(1)
        return before == set(map(int, os.listdir(f"/proc/{pid}/fd"))) and before

    used = until(settled, f"nothing ends on node {node} any more", 30)
    limit = 0
    while room or limit in used:  # numbers below the limit are free, too
        room -= limit not in used
        limit += 1
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@case("out of descriptors: accepting pauses and does not spin, flows go on, and it recovers", mesh=True)
def descriptors(bed):
    client, server = pair(bed)
    client.sendall(b"x")
    server.recv_exactly(1)
    pid, counted, since = worker_pid(bed, 2), bed.counters(2), bed.log_size(2)
    stranger = bed.agent("x")
    with few_descriptors(bed, 2, 8):
        held, errors = stranger.call(hold, bed.address("b"), 5001, 40, None, 10)
        check(0 < held <= 10, f"{held} connections found a descriptor, 8 were free, of two threads a spare one each")
        equal(set(errors), {errno.ECONNRESET}, "how the others end")
        # New ones keep coming, and what is there has the daemon's attention.
        attempt = stranger.start(hold, bed.address("b"), 5001, 40)
        cpu, start, slowest = cpu_seconds(pid), time.monotonic(), 0
        for _ in range(20):
            began = time.monotonic()
            client.sendall(MARKER.encode())
            equal(server.recv_exactly(len(MARKER)), MARKER.encode(), "what a flow moves meanwhile")
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.05)
        stranger.result(attempt)
        busy = (cpu_seconds(pid) - cpu) / (time.monotonic() - start)
        check(busy < 0.5, f"the daemon uses {busy:.0%} of a CPU while it has no descriptors")
        check(slowest < 2, f"a round trip took {slowest:.2f} s")
    now = bed.counters(2)
    refused, paused = (now.get(name, 0) - counted.get(name, 0) for name in ("no-resources", "accept-paused"))
    check(refused >= len(errors), f"no-resources counts {refused}, {len(errors)} were refused at first")
    check(paused, "a pause is counted")
    bed.wait_log(2, since, "accepting paused")
    stranger.call(release)
    until(lambda: not bed.flow_totals(2)["handshake"], "the stranger's are gone", 5)
    connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), 5814, MARKER.encode())
    client.close()
    equal(server.recv_to_end(), (b"", 0), "the end of the flow")
    server.close()
    return f"{refused} refused in {paused} pauses, {busy:.0%} of a CPU, slowest round trip {slowest * 1000:.0f} ms"


@case("no descriptor for a pipe: the flow waits, does not spin, and loses nothing", mesh=True, timeout=60)
def pipes(bed):
    bed.testbed("restart", "2")
    flows_before = [pair(bed, 4, port=5820 + i) for i in range(4)]
    # Loops keep pipes for the next flow: flows that nobody reads, either way, hold them all.
    plugs = []
    while bed.descriptors(2)["pipe"] != 4 * len(plugs) or len(plugs) < 2:
        check(len(plugs) < 12, f"idle pipes are never used up: {bed.descriptors(2)} with {len(plugs)}")
        plugs.append(pair(bed, 4, port=5840))
        for end in plugs[-1]:
            end.settimeout(0.5)
            try:
                while True:
                    end.send(BIG)
            except TimeoutError:
                pass
    pid, counted = worker_pid(bed, 2), bed.counters(2)
    with few_descriptors(bed, 2, 1):  # for the control socket; a pipe takes two
        readers = []
        for client, server in flows_before:
            client.sendall(BIG)
            client.shutdown(socket.SHUT_WR)
            readers.append(server.start("recv_to_end"))
        until(lambda: bed.counter(2, "pipe-wait") - counted.get("pipe-wait", 0) == 4, "all four wait", 10)
        cpu, start = cpu_seconds(pid), time.monotonic()
        time.sleep(2)
        busy = (cpu_seconds(pid) - cpu) / (time.monotonic() - start)
        check(busy < 0.5, f"the daemon uses {busy:.0%} of a CPU while flows wait")
        equal(bed.counter(2, "pipe-wait") - counted.get("pipe-wait", 0), 4, "a flow that waits is counted once")
    for (client, server), reader in zip(flows_before, readers):
        data, code = server.agent.result(reader)
        equal((len(data), code, data == BIG), (len(BIG), 0, True), "bytes, end, the right bytes")
        server.close()
        client.close()
    for client, server in plugs:
        server.reset()
    return f"{busy:.0%} of a CPU meanwhile"


def memory_cgroup(bed, node):
    """Turns on the memory controller for the daemon's cgroup: its directory."""
    top = os.path.dirname(bed.env["cgroup"])
    for path in (top, bed.env["cgroup"]):
        with open(path + "/cgroup.subtree_control", "w", encoding="ascii") as file:
            file.write("+memory")
    return f"{bed.env['cgroup']}/kmtlsd-{node}"


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(str(text))


def read_number(path):
    with open(path, encoding="ascii") as file:
        return int(file.read())


@case("memory runs short: new connections are refused, flows go on, and it recovers", mesh=True, kernel="6.12")
def memory(bed):
    path = memory_cgroup(bed, 2)
    with limited(bed, 2, "limits: {memory_percent: 50}"):
        client, server = pair(bed)
        client.sendall(b"x")
        server.recv_exactly(1)
        agent, since = bed.agent("a"), bed.log_size(2)
        listener = bed.agent("b").listen(bed.address("b"), 5815)
        with open(path + "/memory.stat", encoding="ascii") as file:
            stat = dict(line.split() for line in file)
        # Files can be dropped and are not counted.
        used = read_number(path + "/memory.current") - int(stat["inactive_file"]) - int(stat["active_file"])
        try:
            write(path + "/memory.max", used * 5 // 3)
            time.sleep(0.3)
            before = bed.counter(2, "memory-pressure")
            for version in (4, 6):
                code = agent.socket(socket.AF_INET6 if version == 6 else socket.AF_INET).connect_ex(
                    (bed.address("b", version), 5815 if version == 4 else 5001))
                check(code in REFUSED, f"a new connection ends with errno {code}")
            # What a pod of this node begins is refused as well.
            code = bed.agent("b").socket().connect_ex((bed.address("a"), 5815))
            check(code in REFUSED, f"a new connection outwards ends with errno {code}")
            check(bed.counter(2, "memory-pressure") >= before + 3, "they are counted")
            bed.wait_log(2, since, "memory pressure: new connections are refused")
            client.sendall(MARKER.encode())
            equal(server.recv_exactly(len(MARKER)), MARKER.encode(), "what a flow moves meanwhile")
            # The limit is followed at run time: there and back.
            bed.kmtls(2, "settings", "set", "limits.memory_percent", "0")
            time.sleep(0.3)
            here = agent.connect(bed.address("b"), 5815)
            listener.accept()[0].close()
            equal(here.recv_to_end(), (b"", 0), "served without a limit")
            bed.kmtls(2, "settings", "set", "limits.memory_percent", "50")
            time.sleep(0.3)
            before = bed.counter(2, "memory-pressure")
            code = agent.socket().connect_ex((bed.address("b"), 5815))
            check(code in REFUSED, f"a new connection ends with errno {code}")
            check(bed.counter(2, "memory-pressure") > before, "and is counted")
        finally:
            write(path + "/memory.max", "max")
        time.sleep(0.3)
        here = agent.connect(bed.address("b"), 5815)
        listener.accept()[0].close()
        equal(here.recv_to_end(), (b"", 0), "served again")
        bed.wait_log(2, since, "memory pressure is over")
        client.close()
        equal(server.recv_to_end(), (b"", 0), "the end of the flow")
    return f"{used >> 10} KiB used of {used * 5 // 3 >> 10}"
