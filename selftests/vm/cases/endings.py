# SPDX-License-Identifier: Apache-2.0
"""How flows end that nobody closes in order: a table of what both applications see, how soon, and what
is counted on which node; and that nothing remains: slots, descriptors, pipes, map entries, namespaces.

FIN, half-close, RST and kills as such are in streams; here each is once more in the table, so that the
table is whole. The client is always pod a on node 1, the server pod b on node 2.
"""
import collections
import contextlib
import errno
import json
import os
import socket
import subprocess
import time

from lib.bed import MARKER, sockets_of
from lib.maps import stored
from lib.tap import Failure, case, check, equal, until
from lib.wire import forge_end, start_watch

from .limits import limited
from .policy import connect_and_talk
from .streams import BIG, pair

OK, RESET = 0, errno.ECONNRESET
QUICK = "keepalive: {idle: 1s, interval: 1s, probes: 3}\npeer_timeout: 5s"
RST = 4
NODES = {"client": 1, "server": 2}
ENDS = ("ended", "local-reset", "peer-reset", "truncated", "bad-record", "unexpected-record", "peer-alert",
        "relay-failed", "stopped", "pod-deleted", "linger-timeout", "peer-timeout")

Row = collections.namedtuple("Row", "ending version client server seconds counted1 counted2")
TABLE = []


# Maps whose keys begin with, or are, the cookie of a namespace.
PER_NAMESPACE = {"pods", "own_addresses", "listeners", "acceptors", "dials", "callers", "turned_names"}


class Watch:
    """Counters of both nodes from now on; what ended since."""

    def __init__(self, bed):
        self.bed = bed
        self.before = {node: bed.counters(node) for node in (1, 2)}

    def ended(self, node):
        now = self.bed.counters(node)
        return "+".join(name if now.get(name, 0) - self.before[node].get(name, 0) == 1 else
                        f"{now.get(name, 0) - self.before[node].get(name, 0)} {name}"
                        for name in ENDS if now.get(name, 0) != self.before[node].get(name, 0))


def name_of(end):
    if end is None:
        return "-"
    return "EOF" if end == OK else errno.errorcode.get(end, str(end))


def note(bed, watch, ending, version, client, server, seconds, expected, within):
    """Checks a row against what it must be: ends of client and server, reasons on the nodes, time."""
    if watch:
        until(lambda: (watch.ended(1), watch.ended(2)) == expected[2:], f"{ending}, IPv{version}: counted "
              f"{expected[2:]}", 4) if all(expected[2:]) else None
        counted = (watch.ended(1), watch.ended(2))
    else:
        counted = expected[2:]
    row = Row(ending, version, name_of(client), name_of(server), seconds, *counted)
    TABLE.append(row)
    equal((client, server, *counted), expected, f"{ending}, IPv{version}: client, server, node 1, node 2")
    check(seconds < within, f"{ending}, IPv{version}: it took {seconds:.1f} s")


def connected(bed, version, port=5900):
    client, server = pair(bed, version, port=port)
    client.sendall(MARKER.encode())
    server.recv_exactly(len(MARKER))
    server.sendall(MARKER.encode())
    client.recv_exactly(len(MARKER))
    return client, server


def watching(bed):
    return None if bed.plain else Watch(bed)


@case("FIN, RST, an unread rest: from either end, either version")
def orderly(bed):
    both = ("ended", "ended")
    reset_by = {"client": ("local-reset", "peer-reset"), "server": ("peer-reset", "local-reset")}
    for version in (4, 6):
        for who in ("client", "server"):
            for ending in ("FIN", "half-close", "RST", "close with unread data"):
                watch = watching(bed)
                ends = dict(zip(("client", "server"), connected(bed, version)))
                near, far = ends.pop(who), next(iter(ends.values()))
                start = time.monotonic()
                seen = OK
                if ending == "FIN":
                    near.close()
                    seen = far.recv_to_end()[1]
                    far.close()
                elif ending == "half-close":
                    near.shutdown(socket.SHUT_WR)
                    equal(far.recv_to_end(), (b"", OK), "the end that is passed on")
                    far.sendall(BIG)
                    far.close()
                    data, seen = near.recv_to_end()
                    equal(len(data), len(BIG), "what comes after it")
                    near.close()
                elif ending == "RST":
                    near.reset()
                    seen = far.recv_to_end()[1]
                    far.close()
                else:
                    far.sendall(b"unread")
                    until(lambda sock=near: len(sock.recv(6, socket.MSG_PEEK)) == 6, "it is there, unread")
                    near.close()
                    seen = far.recv_to_end()[1]
                    far.close()
                seconds = time.monotonic() - start
                expected_seen = OK if ending in ("FIN", "half-close") else RESET
                counted = both if expected_seen == OK else reset_by[who]
                pair_of = (None, seen) if who == "client" else (seen, None)
                wanted = (None, expected_seen) if who == "client" else (expected_seen, None)
                note(bed, watch, f"{ending}, by {who}", version, *pair_of, seconds, (*wanted, *counted), 5)


@case("an application that is killed with data it has not read, and one that is writing")
def killed(bed):
    for version in (4, 6):
        for who in ("client", "server"):
            watch = watching(bed)
            doomed = bed.new_agent("a" if who == "client" else "b")
            if who == "client":
                listener = bed.agent("b").listen(bed.address("b", version), 5901)
                dying = doomed.connect(bed.address("b", version), 5901)
                survivor, _ = listener.accept()
                listener.close()
            else:
                listener = doomed.listen(bed.address("b", version), 5901)
                survivor = bed.agent("a").connect(bed.address("b", version), 5901)
                dying, _ = listener.accept()
            survivor.sendall(b"unread")
            until(lambda sock=dying: len(sock.recv(6, socket.MSG_PEEK)) == 6, "it is there, unread")
            writer = survivor.start("recv_to_end")
            start = time.monotonic()
            doomed.kill()
            _, seen = survivor.agent.result(writer)
            seconds = time.monotonic() - start
            survivor.close()
            wanted = (None, RESET, "local-reset", "peer-reset") if who == "client" else \
                (RESET, None, "peer-reset", "local-reset")
            note(bed, watch, f"SIGKILL with unread data, of {who}", version,
                 *((None, seen) if who == "client" else (seen, None)), seconds, wanted, 5)


RULES = """table inet silence {{
	chain through {{
		type filter hook forward priority 0
		tcp {direction} {port} counter drop
	}}
}}
"""


@contextlib.contextmanager
def silence(bed, port):
    """From here on no packet of the port passes node 2, in neither direction, and nobody says so."""
    path = bed.dir + "/silence.nft"
    with open(path, "w", encoding="ascii") as file:
        for direction in ("sport", "dport"):
            file.write(RULES.replace("silence", "silence_" + direction).format(direction=direction, port=port))
    bed.run("n2", "nft", "-f", path)
    try:
        yield
    finally:
        for direction in ("sport", "dport"):
            bed.run("n2", "nft", "delete", "table", "inet", "silence_" + direction)


def all_ends(pairs):
    """All read to their end at once: for each pair the errno of both, and the seconds until the later one."""
    begun = [[(end, end.start("drain")) for end in ends] for ends in pairs]
    start, found = time.monotonic(), []
    for ends in begun:
        results = [end.agent.result(number) for end, number in ends]
        found.append((*(code for code, _, _ in results), max(when for _, when, _ in results) - start))
    for end in (end for ends in pairs for end in ends):
        end.close()
    return found


@case("the peer's host is gone: keepalive finds it out, and with data on its way peer_timeout, on both sides", mesh=True,
      timeout=120)
def silent(bed):
    with limited(bed, 1, QUICK), limited(bed, 2, QUICK):
        pairs = [connected(bed, version, 5902) for version in (4, 6)]
        watch = watching(bed)
        with silence(bed, 5902):
            ends = all_ends(pairs)
        for version, (here, there, seconds) in zip((4, 6), ends):
            note(bed, watch, "silence, idle (keepalive), 2 flows", version, here, there, seconds,
                 (RESET, RESET, "2 peer-timeout", "2 peer-timeout"), 15)
        kinds = [(version, who) for version in (4, 6) for who in ("client", "server")]
        pairs = [connected(bed, version, 5903) for version, _ in kinds]
        watch = watching(bed)
        with silence(bed, 5903):
            for (_, who), (client, server) in zip(kinds, pairs):
                (client if who == "client" else server).sendall(MARKER.encode())
            ends = all_ends(pairs)
        for (version, who), (here, there, seconds) in zip(kinds, ends):
            note(bed, watch, f"silence, unacknowledged data of {who} (peer_timeout), 4 flows", version, here, there, seconds,
                 (RESET, RESET, "4 peer-timeout", "4 peer-timeout"), 20)


@case("keepalive and peer_timeout are on the wire as configured; the application's own go first", mesh=True)
def options(bed):
    with limited(bed, 1, "keepalive: {idle: 77s, interval: 7s, probes: 5}\npeer_timeout: 3m"):
        listener = bed.agent("b").listen(bed.address("b"), 5904)

        def wire_of(prepare):
            sock = bed.agent("a").socket()
            prepare(sock)
            sock.connect((bed.address("b"), 5904))
            there, _ = listener.accept()
            local = (bed.address("a"), sock.getsockname()[1])
            wire = bed.daemon_socket(1, local, (bed.address("b"), 5904))
            got = [wire.getsockopt(socket.IPPROTO_TCP, name) for name in
                   (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)]
            wire.close()
            sock.close()
            there.close()
            return got

        def own(sock):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 33)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 44000)

        equal(wire_of(lambda sock: None), [77, 7, 5, 180000], "configured")
        got = wire_of(own)
        equal((got[0], got[3]), (33, 44000), "the application's own")


# --- pods that go ------------------------------------------------------------------------------------


def map_entries(bed, node, cookie):
    """Entries of internal and public maps that name a namespace."""
    found = {}
    pins = f"{bed.env['pins']}/n{node}"
    needle = cookie.to_bytes(8, "little")
    for base, _, files in os.walk(pins):
        if "links" in base:
            continue
        for name in sorted(set(files) & PER_NAMESPACE):
            path = os.path.join(base, name)
            done = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", path], capture_output=True, text=True,
                                  timeout=60, check=False)
            check(done.returncode == 0, f"bpftool: {done.stdout}{done.stderr}")
            entries = json.loads(done.stdout or "[]")
            if not isinstance(entries, list):
                continue
            count = 0
            for entry in entries:
                if not isinstance(entry, dict) or "key" not in entry:
                    continue
                key = entry["key"]
                raw = bytes(int(byte, 16) for byte in key) if isinstance(key, list) else b""
                if needle in raw:
                    count += 1
            if count:
                found[name] = count
    return found


class Guest:
    """A pod of its own on node 2, made and unmade here: e, 10.89.2.20 and fd89:2::20."""

    name, address4, address6 = "e", "10.89.2.20", "fd89:2::20"

    def __init__(self, bed):
        self.bed = bed
        self.netns = "kt-e"
        self.cgroup = bed.env["cgroup"] + "/e"
        self.agents = []
        run = self._run
        os.makedirs(self.cgroup, exist_ok=True)
        run("ip", "netns", "add", self.netns)
        run("ip", "link", "add", "eth0", "netns", self.netns, "type", "veth", "peer", "name", "pod-e", "netns",
            "kt-n2")
        for command in ("link set lo up", f"addr add {self.address4}/32 dev eth0",
                        f"addr add {self.address6}/128 dev eth0 nodad", "link set eth0 up",
                        f"route add 169.254.0.1 dev eth0 scope link src {self.address4}",
                        f"route add default via 169.254.0.1 dev eth0 src {self.address4}",
                        f"route add default via fe80::1 dev eth0 src {self.address6}"):
            run("ip", "-n", self.netns, *command.split())
        for command in ("addr add 169.254.0.1/32 dev pod-e", "addr add fe80::1/64 dev pod-e nodad",
                        "link set pod-e up", f"route add {self.address4}/32 dev pod-e",
                        f"route add {self.address6}/128 dev pod-e"):
            run("ip", "-n", "kt-n2", *command.split())
        identity = "spiffe://example.org/ns/default/sa/e"
        bed.kmtls(2, "pod", "add", "e", "--netns", "/run/netns/" + self.netns, "--cgroup", self.cgroup, "--id",
                  identity)
        for node in (1, 2):
            for prefix in (self.address4 + "/32", self.address6 + "/128"):
                bed.kmtls(node, "peer", "add", prefix, "--id", identity)
        self.cookie = next(pod["netns_cookie"] for pod in bed.kmtls(2, "pod", "list") if pod["name"] == "e")

    @staticmethod
    def _run(*argv, check_=True):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        if check_ and done.returncode:
            raise Failure(f"{' '.join(argv)}: {done.stderr}")

    def address(self, version):
        return self.address6 if version == 6 else self.address4

    def agent(self):
        from lib.agent import Agent

        self.agents.append(Agent(self.cgroup, "/run/netns/" + self.netns))
        return self.agents[-1]

    def kill(self):
        """As a container runtime does: all of the cgroup at once."""
        with open(self.cgroup + "/cgroup.kill", "w", encoding="ascii") as file:
            file.write("1")
        for agent in self.agents:
            os.waitpid(agent.pid, 0)
            agent.channel.close()
        self.agents.clear()

    def delete_netns(self):
        self._run("ip", "netns", "del", self.netns)

    def remove_cgroup(self):
        until(lambda: self._gone(), "the cgroup can be removed", 5)

    def _gone(self):
        with contextlib.suppress(OSError):
            os.rmdir(self.cgroup)
        return not os.path.exists(self.cgroup)

    def has_namespace(self):
        """Whether the kernel still has it, whatever holds it (a socket shows nowhere): the link's other end
        goes with it."""
        return self.bed.run("n2", "ip", "link", "show", "pod-e", status=None).returncode == 0

    def is_enrolled(self):
        return any(pod["name"] == "e" for pod in self.bed.kmtls(2, "pod", "list"))

    def clean_up(self):
        if self.agents:
            self.kill()
        if self.is_enrolled():
            self.bed.kmtls(2, "pod", "del", "e")
        self._run("ip", "netns", "del", self.netns, check_=False)
        self._run("ip", "-n", "kt-n2", "link", "del", "pod-e", check_=False)
        self._gone()
        for node in (1, 2):
            for prefix in (self.address4 + "/32", self.address6 + "/128"):
                with contextlib.suppress(Failure):
                    self.bed.kmtls(node, "peer", "del", prefix)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.clean_up()


def flows_of(bed, guest, agent, count=3):
    """Connections from pod a to the guest, of both versions, both ends; and one the other way."""
    pairs = []
    for i in range(count):
        version = 4 if i % 2 == 0 else 6
        listener = agent.listen(guest.address(version), 5910 + i)
        here = bed.agent("a").connect(guest.address(version), 5910 + i)
        there, _ = listener.accept()
        listener.close()
        pairs.append((here, there))
    listener = bed.agent("a").listen(bed.address("a"), 5919)
    there = agent.connect(bed.address("a"), 5919)
    here, _ = listener.accept()
    listener.close()
    pairs.append((here, there))
    for here, there in pairs:
        here.sendall(b"x")
        there.recv_exactly(1)
    return pairs


def nothing_left(bed, guest, before, names=True):
    """Of the pod in node 2's daemon and maps; of its namespace anywhere."""
    def settled():
        after = bed.descriptors(2)
        for name in ("all", "socket"):
            if after[name] - after["pipe"] * (name == "all") > before[name] - before["pipe"] * (name == "all"):
                raise Failure(f"descriptors {after}, before {before}")
        left = [flow for flow in bed.flows(2) if flow["self"]["address"] in (guest.address4, guest.address6)]
        if left:
            raise Failure(f"flows {left[:2]}")
        entries = map_entries(bed, 2, guest.cookie)
        if entries:
            raise Failure(f"map entries of the namespace: {entries}")
        return True

    until(settled, "slots, descriptors and map entries of the pod are gone", 10)
    if names:
        until(lambda: not guest.has_namespace(), "the namespace is gone", 10)


@case("a pod is deleted (pod del) with flows open: resets at the other side; nothing remains", mesh=True)
def pod_deleted(bed):
    before = bed.descriptors(2)
    with Guest(bed) as guest:
        agent = guest.agent()
        pairs = flows_of(bed, guest, agent)
        check(map_entries(bed, 2, guest.cookie), "the maps name the namespace before")
        equal(len([flow for flow in bed.flows(2) if flow["self"]["address"] in (guest.address4, guest.address6)]), 4,
              "flows of the pod before")
        watch, start = Watch(bed), time.monotonic()
        bed.kmtls(2, "pod", "del", "e")
        ends = [(here.recv_to_end()[1], there.recv_to_end()[1]) for here, there in pairs]
        seconds = time.monotonic() - start
        equal(set(ends), {(RESET, RESET)}, "how the flows end")
        note(bed, watch, "pod del, 4 flows", "4/6", RESET, RESET, seconds,
             (RESET, RESET, "4 peer-reset", "4 pod-deleted"), 5)
        guest.kill()
        guest.delete_netns()
        nothing_left(bed, guest, before)


@case("a pod's processes, namespace and cgroup go, as when a runtime ends it: the daemon lets go of it", mesh=True)
def pod_gone(bed):
    before = bed.descriptors(2)
    with Guest(bed) as guest:
        agent = guest.agent()
        pairs = flows_of(bed, guest, agent)
        for here, there in pairs:
            here.sendall(b"unread")
            until(lambda sock=there: len(sock.recv(6, socket.MSG_PEEK)) == 6, "it is there, unread")
        since = bed.log_size(2)
        watch, start = Watch(bed), time.monotonic()
        guest.kill()
        guest.delete_netns()
        guest.remove_cgroup()
        ends = [here.recv_to_end()[1] for here, _ in pairs]
        seconds = time.monotonic() - start
        equal(set(ends), {RESET}, "how the flows end")
        note(bed, watch, "pod's processes, namespace, cgroup removed, 4 flows", "4/6", RESET, None, seconds,
             (RESET, None, "4 peer-reset", "4 local-reset"), 5)
        bed.wait_log(2, since, 'msg="pod gone"', "pod=e", "cgroup", seconds=4)
        until(lambda: not guest.is_enrolled(), "the pod is not enrolled any more", 3)
        gone = time.monotonic() - start
        nothing_left(bed, guest, before)
        alive = time.monotonic() - start
    return f"pod let go after {gone:.1f} s, namespace gone after {alive:.1f} s"


@case("the namespace's path goes and processes run on: still meshed; then they end: the daemon lets go", mesh=True)
def path_deleted(bed):
    before = bed.descriptors(2)
    with Guest(bed) as guest:
        agent = guest.agent()
        pairs = flows_of(bed, guest, agent, 2)
        guest.delete_netns()
        time.sleep(4)
        check(guest.is_enrolled(), "a pod whose processes run is enrolled")
        check(guest.has_namespace(), "its namespace is there (so the test finds it)")
        for here, there in pairs:
            here.sendall(MARKER.encode())
            equal(there.recv_exactly(len(MARKER)), MARKER.encode(), "its flows go on")
        connect_and_talk(bed.agent("a"), agent, guest.address4, 5920, MARKER.encode())
        since, start = bed.log_size(2), time.monotonic()
        guest.kill()  # the cgroup stays
        ends = [here.recv_to_end()[1] for here, _ in pairs]
        equal(set(ends), {OK}, "all had been read: the ends are in order, as in plain TCP")
        for here, _ in pairs:
            here.close()
        bed.wait_log(2, since, 'msg="pod gone"', "pod=e", "no process", seconds=6)
        until(lambda: not guest.is_enrolled(), "the pod is not enrolled any more", 3)
        gone = time.monotonic() - start
        nothing_left(bed, guest, before)
    return f"let go {gone:.1f} s after its last process"


@case("a pod goes under load, both ways: the other side learns it in bounded time", mesh=True, timeout=150)
def gone_under_load(bed):
    before = bed.descriptors(2)
    with Guest(bed) as guest:
        agent = guest.agent()
        pairs = flows_of(bed, guest, agent, 5)
        readers, writers = [], []
        for i, (here, there) in enumerate(pairs):
            if i % 2:
                writers.append((here, here.start("pour", BIG)))
                there.start("drain")
            else:
                there.start("pour", BIG)
                readers.append((here, here.start("drain")))
        time.sleep(1)
        watch, start = Watch(bed), time.monotonic()
        guest.kill()
        guest.delete_netns()
        guest.remove_cgroup()
        removed = time.monotonic() - start
        read = [here.agent.result(number) for here, number in readers]
        written = [here.agent.result(number) for here, number in writers]
        for here, _ in pairs:
            here.close()
        # A writer's peer left data unread. A reader's had read all it was sent, which was nothing: its end
        # is in order if all it had sent came through before the pod was let go, else it is a reset.
        check({code for code, *_ in written} <= {RESET, errno.EPIPE}, f"how writing ends: {written}")
        check({code for code, *_ in read} <= {OK, RESET}, f"how reading ends: {read}")
        ends = [code for code, *_ in read + written]
        seconds = max(when for _, when, _ in read + written) - start
        quiet = max(when - max(last, start + removed) for _, when, last in read + written)
        check(quiet < 5, f"nothing moved for {quiet:.1f} s, and one end did not know")
        until(lambda: not guest.is_enrolled(), "the pod is not enrolled any more", 4)
        nothing_left(bed, guest, before)
        until(lambda: watch.ended(1) and watch.ended(2), "they are counted", 4)
        TABLE.append(Row(f"pod gone under load, {len(pairs)} flows", "4/6",
                         "/".join(sorted(set(map(name_of, ends)))), "-", seconds, watch.ended(1), watch.ended(2)))
    return f"the last end after {seconds:.1f} s, {quiet:.1f} s after the last byte"


@case("the table of endings")
def table(bed):
    widths = [max(len(str(value)) for value in column) for column in zip(*TABLE)] if TABLE else []
    lines = []
    for row in TABLE:
        cells = [f"{value:.1f} s" if isinstance(value, float) else str(value) for value in row]
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)))
    return "\n" + "\n".join(lines)


def loopback_leg(bed, place, filter_):
    """The two ends of the daemon's leg in a pod's namespace, as the kernel has them: ((address, port), ...)."""

    def end(text):
        address, port = text.rsplit(":", 1)
        return address.strip("[]"), int(port)

    lines = bed.run(place, "ss", "-Htn", "state", "established", filter_).splitlines()
    equal(len(lines), 1, f"connections in {place} with {filter_}")
    return [end(word) for word in lines[0].split()[2:4]]


@case("a RST that the other end of a leg never sent, as the kernel makes them in a race, ends nothing", mesh=True)
def stray_reset(bed):
    for version in (4, 6):
        client, server = pair(bed, version)
        before = [bed.counter(node, "stray-reset") for node in (1, 2)]
        # The application's leg on the client's node, and the daemon's on the server's: whoever connected is reset.
        mine, theirs = loopback_leg(bed, "a", "dport ge :15001 and dport le :16127")
        legs = [("a", theirs, mine)]
        mine, theirs = loopback_leg(bed, "b", f"sport = :5700 and not dst [{bed.address('a', version)}]")
        legs.append(("b", mine, theirs))
        watches = [(place, bed.agent(place).call(start_watch, "lo", source, to)) for place, source, to in legs]
        server.sendall(MARKER.encode())
        equal(client.recv_exactly(len(MARKER)), MARKER.encode(), "what the server sent")
        client.sendall(b"x")
        equal(server.recv_exactly(1), b"x", "what the client sent")
        for place, watch in watches:
            check(bed.agent(place).call(forge_end, watch, RST), f"a RST was forged in {place}")
        time.sleep(0.3)
        equal([bed.counter(node, "stray-reset") for node in (1, 2)], [number + 1 for number in before], "counted")
        for _ in range(2):
            server.sendall(BIG)
            equal(client.recv_exactly(len(BIG)), BIG, "afterwards, to the client")
            client.sendall(b"y")
            equal(server.recv_exactly(1), b"y", "afterwards, to the server")
        client.close()
        equal(server.recv_to_end(), (b"", 0), "the end")
        server.close()


@case("of an established flow only the applications' sockets have storage of BPF; who they talk to is still told", mesh=True)
def storage(bed):
    def connected_with_storage(node, pid):
        """Of the connected sockets of a process that the kernel has storage for."""
        found = []
        for one in sockets_of(pid):
            with one:
                try:
                    ends = (one.getsockname()[:2], one.getpeername()[:2])
                except OSError:
                    continue
                if stored(f"{bed.env['pins']}/n{node}/internal/sockets", one):
                    found.append(ends)
        return found

    for version in (4, 6):
        before = [connected_with_storage(node, bed.daemon_pid(node)) for node in (1, 2)]
        client, server = pair(bed, version)
        client.sendall(b"x")
        equal(server.recv_exactly(1), b"x", "what the client sent")
        equal(client.getpeername()[:2], (bed.address("b", version), 5700), "whom the client talks to")
        equal(server.getpeername()[:2], client.getsockname()[:2], "whom the server talks to")
        for node, place in ((1, "a"), (2, "b")):
            check(connected_with_storage(node, bed.agent(place).pid), f"no socket of {place} has storage")
            equal(connected_with_storage(node, bed.daemon_pid(node)), before[node - 1], f"the daemon's of node {node}")
        client.close()
        equal(server.recv_to_end(), (b"", 0), "the end")
        server.close()
