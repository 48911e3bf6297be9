# SPDX-License-Identifier: Apache-2.0
"""Every mode at every scope for every kind of peer, both directions, both IPs: what both applications saw,
and what was on the wire. What is expected is written down here once more; nothing of it is computed by the
rules that are tested."""
import collections
import contextlib
import errno
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from lib import tap
from lib.tap import case, check, equal

from .modes import POD, element, renamed
from .policy import talk
from .streams import REFUSED

# Rows that must not go missing, whatever becomes of the modules: where each of them is.
FIXED = {
    "strict mesh + pod off = strict": "modes.precedence",
    "permissive mesh + pod strict: unmeshed client refused, meshed accepted": "permissive.refused",
    "permissive mesh + port off on a strict pod: that port plaintext, others not": "mode_table.table",
    "strict, meshed pod dials unmeshed host: EPERM at once": "policy.to_stranger",
    "strict, masqueraded outsider through the node's address to a non-probe port: refused": "permissive.probes",
    "strict, probe from the node to the named port: plaintext works": "permissive.probes",
    "hairpin through a service address back to the same node: mTLS": "mode_table.hairpin",
    "permissive, server-speaks-first, client off: banner within 200 ms": "permissive.server_first",
    "permissive, application's own TLS on both ends": "permissive.own_tls",
    "a connection opened before enrolment, then strict": "modes.before_enrolment",
    "UDP in strict: passes, counted": "udp.exchange",
    "raw-socket TCP SYN in strict: dropped, counted": "modes.raw",
}

# Each map that is the operator's: where the same is tested once through kmtls, once through bpftool only.
OPERATORS = {"modes": "modes.operators", "peers": "peers.equals", "names": "peers.equals", "authorizations": "authz.rules",
             "settings": "authz.rules"}

MODES = ("off", "permissive", "strict")
NUMBERS = {"off": "1", "permissive": "2", "strict": "3"}
IN, OUT = "inbound", "outbound"
DIRECTIONS = {IN: 1, OUT: 2}
MESH, NAMESPACE, POD_SCOPE, PORT = 1, 2, 3, 4  # as in the map

# What may become of a connection.
PLAIN = "plaintext"  # text there and back, to be read on the wire
TLS = "tls"  # text there and back, nothing of it to be read
EPERM = "eperm"  # connect() fails at once, nothing on the wire
RESET = "reset"  # the application is not connected to; its own words are all that is on the wire
ALIEN = "alien"  # the application, which is off, gets a ClientHello; the client is refused

# Far end's place, address and port; and whether something is said of the port where the scope is the port.
# y is a second address of the stranger, of which the peers map knows nothing; x is bypassed on one port.
BYPASSED, OTHER = 6023, 6024
OUTBOUND = {
    "meshed": ("b", 6021, True), "unmeshed": ("y", 6022, True), "bypass": ("x", BYPASSED, True),
    "bypass, another port": ("x", OTHER, True), "unmeshed, nothing said": ("y", 6025, False),
}
INBOUND = {
    "meshed": ("b", 6031, True), "meshed, in plaintext": ("b", 6032, True), "unmeshed": ("y", 6033, True),
    "bypass": ("x", BYPASSED, True), "bypass, another port": ("x", OTHER, True),
    "unmeshed, nothing said": ("y", 6034, False),
}
PEERS = {OUT: OUTBOUND, IN: INBOUND}
EXPECTED = {
    #                                     off    permissive strict
    (OUT, "meshed"):                     (PLAIN, TLS, TLS),
    (OUT, "unmeshed"):                   (PLAIN, PLAIN, EPERM),
    (OUT, "unmeshed, nothing said"):     (PLAIN, PLAIN, EPERM),
    (OUT, "bypass"):                     (PLAIN, PLAIN, PLAIN),
    (OUT, "bypass, another port"):       (PLAIN, PLAIN, EPERM),
    (IN, "meshed"):                      (ALIEN, TLS, TLS),
    (IN, "meshed, in plaintext"):        (PLAIN, PLAIN, RESET),
    (IN, "unmeshed"):                    (PLAIN, PLAIN, RESET),
    (IN, "unmeshed, nothing said"):      (PLAIN, PLAIN, RESET),
    (IN, "bypass"):                      (PLAIN, PLAIN, PLAIN),
    (IN, "bypass, another port"):        (PLAIN, PLAIN, RESET),
}
SCOPES = ("mesh", "namespace", "pod", "port", "port of every pod")
# What wider scopes say meanwhile, so that it is the element in question that counts: something else.
MESH_BESIDE = {"off": "permissive", "permissive": "off", "strict": "permissive"}
BESIDE = {"off": "strict", "permissive": "strict", "strict": "off"}


# --- in agents ----------------------------------------------------------------------------------------

_seen = []  # (when, address, port, first bytes) of each connection accepted


def serve(places):
    """Listens and sends back what comes; remembers who came."""
    def copy(accepted, address, port):
        with accepted, contextlib.suppress(OSError):
            entry = [time.time(), address, port, b""]
            _seen.append(entry)
            while data := accepted.recv(65536):
                entry[3] = entry[3] or data
                accepted.sendall(data)

    def accept(listener, address, port):
        while True:
            threading.Thread(target=copy, args=(listener.accept()[0], address, port), daemon=True).start()

    for address, port in places:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family, backlog=64)
        threading.Thread(target=accept, args=(listener, address, port), daemon=True).start()


def seen():
    return [tuple(entry) for entry in _seen]


def dial_one(source, address, port, text):
    """What it came to: the call that ended it, the errno, what was received, and seconds until connected."""
    call, got, begin = "connect", b"", time.monotonic()
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        try:
            sock.settimeout(15)
            if source:
                sock.bind((source, 0))
            try:
                sock.connect((address, port))
            finally:
                seconds = time.monotonic() - begin
            call = "talk"
            sock.sendall(text)
            while len(got) < len(text):
                part = sock.recv(len(text) - len(got))
                if not part:
                    return call, 0, got, seconds
                got += part
            return "done", 0, got, seconds
        except OSError as error:
            return call, error.errno or errno.ETIMEDOUT, got, seconds


def dial(jobs):
    """All at once."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(lambda job: dial_one(*job), jobs))


# --- rounds: what is said, and what follows ------------------------------------------------------------


class Round:
    """One state of the map: a mode for each direction, said at one scope, under a mesh of its own mode or strict."""

    def __init__(self, scope, modes, strict_mesh=False):
        self.scope, self.modes, self.strict_mesh = scope, modes, strict_mesh
        self.name = f"{scope}{' under a strict mesh' if strict_mesh else ''}"
        self.begin = self.end = 0

    def elements(self):
        """(scope, name, direction, port) -> mode"""
        said = {}
        for direction, mode in self.modes.items():
            number = DIRECTIONS[direction]
            ports = [port for _, port, listed in PEERS[direction].values() if listed]
            said[MESH, "", number, 0] = "strict" if self.strict_mesh else \
                mode if self.scope == "mesh" else MESH_BESIDE[mode]
            if self.scope == "namespace":
                said[NAMESPACE, POD.split("/", 1)[0], number, 0] = mode
            elif self.scope == "pod":
                said[NAMESPACE, POD.split("/", 1)[0], number, 0] = BESIDE[mode]
                said[POD_SCOPE, POD, number, 0] = mode
            elif self.scope != "mesh":
                said[POD_SCOPE, POD, number, 0] = BESIDE[mode]
                for port in ports:
                    if self.scope == "port":
                        said[PORT, "", number, port] = BESIDE[mode]
                        said[PORT, POD, number, port] = mode
                    else:
                        said[PORT, "", number, port] = mode
        return said

    def mode(self, direction, said):
        """What must hold for a port, of which something is said or not."""
        if said and self.scope == "port of every pod":
            return self.modes[direction]  # said of the mesh as a whole, and holds under a strict one
        if self.strict_mesh:
            return "strict"
        return self.modes[direction] if said or "port" not in self.scope else BESIDE[self.modes[direction]]


def rounds(whole):
    """Each mode at each scope for each direction; the directions never have the same at one time. If it is not to be
    the whole: under a strict mesh half of it, and ports of every pod only there."""
    for scope in SCOPES if whole else SCOPES[:-1]:
        for number, mode in enumerate(MODES):
            yield Round(scope, {OUT: mode, IN: MODES[(number + 1) % 3]})
    for turn, scope in enumerate(SCOPES[1:]):
        for number, mode in enumerate(MODES[:2]):
            if whole or number == turn % 2:
                yield Round(scope, {OUT: mode, IN: MODES[1 - number]}, strict_mesh=True)


def write(bed, changes):
    """Elements of the map on node 1, by one bpftool; a mode of None takes one away."""
    path = bed.dir + "/batch"
    with open(path, "w", encoding="ascii") as file:
        for key, mode in changes.items():
            words = ["map", "update" if mode else "delete", "pinned", f"{bed.env['pins']}/n1/modes", "key", *element(*key)]
            file.write(" ".join(words + (["value", NUMBERS[mode], "0", "0", "0"] if mode else [])) + "\n")
    done = subprocess.run(["bpftool", "batch", "file", path], capture_output=True, text=True, timeout=30, check=False)
    check(done.returncode == 0, f"bpftool batch: {done.stdout}{done.stderr}")


class Row:
    """One connection and what must become of it."""

    def __init__(self, number, of_round, direction, whom, version, address):
        place, port, said = PEERS[direction][whom]
        self.round, self.direction, self.whom = of_round, direction, whom
        self.mode = of_round.mode(direction, said)
        self.expected = EXPECTED[direction, whom][MODES.index(self.mode)]
        self.name = f"{of_round.name} {'/'.join(of_round.modes.values())}: {direction} {whom} IPv{version}, {self.mode}"
        self.text = f"MODE-TABLE-{number};".encode()
        near, far = address("a", version), address(place, version)
        self.client, self.server = (near, far) if direction == OUT else (far, near)
        self.place = "a" if direction == OUT else {"y": "x"}.get(place, place)
        self.port = port
        self.result = None

    def job(self):
        return self.client if self.place == "x" else None, self.server, self.port, self.text

    def during(self, when):
        return self.round.begin <= when <= self.round.end

    def faults(self, flows, accepted, readable):
        """What is not as it must be. flows: on the wire; accepted: first bytes of what the application accepted."""
        call, code, got, seconds = self.result
        talked = (call, got) == ("done", self.text)
        kinds = [flow["kind"] for flow in flows]
        if self.expected == TLS and (self.direction == OUT or self.mode == "permissive"):
            # The server may also be spoken to in plaintext. Then, if this machine was slow, it has seen a connection on
            # which nothing was said (docs/permissive.md, "Nobody speaks").
            accepted = [first for first in accepted if first]
        if self.expected in (PLAIN, TLS):
            return [what for what, good in (
                (f"the client: {call} {code} {got}", talked), (f"the server got {accepted}", accepted == [self.text]),
                (f"on the wire: {kinds}", kinds == [self.expected]),
                (f"its text is readable: {readable}", readable == (self.expected == PLAIN))) if not good]
        if self.expected == EPERM:
            return [what for what, good in (
                (f"the client: {call} {code}", (call, code) == ("connect", errno.EPERM)), (f"{seconds:.1f} s", seconds < 1),
                (f"the server got {accepted}", not accepted), (f"on the wire: {flows}", not flows)) if not good]
        if self.expected == RESET:
            return [what for what, good in (
                (f"the client: {call} {code} {got}", call != "done" and len(got) <= 7 and code in (0, *REFUSED)),
                (f"the server got {accepted}", not accepted),
                (f"on the wire: {flows}", len(flows) == 1 and flows[0]["received"] <= 7)) if not good]
        return [what for what, good in (
            (f"the client: {call} {code} {got}", call == "connect" and code in REFUSED),
            (f"the server got {accepted}", accepted and all(first[:1] == b"\x16" for first in accepted)),
            (f"on the wire: {kinds}", set(kinds) == {"tls"}), (f"its text is readable: {readable}", not readable)) if not good]


# --- the case ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def surroundings(bed):
    """The stranger's second address, its bypass, what node 2 leaves in plaintext, and all the servers."""
    second = {4: "10.89.0.19", 6: "fd89::19"}

    def address(place, version):
        return second[version] if place == "y" else bed.address(place, version)

    near = [(address("a", version), port) for version in (4, 6) for _, port, _ in INBOUND.values()]
    far = {place: [(address(of, version), port) for version in (4, 6) for of, port, _ in OUTBOUND.values() if of in places]
           for place, places in (("b", "b"), ("x", "xy"))}
    whole = {4: "/32", 6: "/128"}
    for version in (4, 6):
        bed.run("x", "ip", "addr", "add", second[version] + whole[version], "dev", "eth0")
        bed.kmtls(1, "peer", "add", bed.address("x", version) + whole[version], "--bypass", "--port", str(BYPASSED))
    # b answers whatever a speaks, and itself speaks plaintext to one port.
    bed.kmtls(2, "policy", "set", "permissive", "--inbound", "--port", "6021")
    bed.kmtls(2, "policy", "set", "off", "--outbound", "--port", "6032")
    bed.agent("a").call(serve, near)
    for place in far:
        bed.agent(place).call(serve, far[place])
    try:
        yield address
    finally:
        bed.kmtls(2, "policy", "unset", "--inbound", "--port", "6021")
        bed.kmtls(2, "policy", "unset", "--outbound", "--port", "6032")
        for version in (4, 6):
            bed.kmtls(1, "peer", "del", bed.address("x", version) + whole[version])
            bed.run("x", "ip", "addr", "del", second[version] + whole[version], "dev", "eth0")


def run_round(bed, of_round, rows):
    """All connections of a round at once."""
    of_round.begin = time.time()
    begun = []
    for place in "abx":
        group = [row for row in rows if row.place == place]
        begun.append((group, bed.agent(place), bed.agent(place).start(dial, [row.job() for row in group])))
    for group, agent, number in begun:
        for row, result in zip(group, agent.result(number)):
            row.result = result
    of_round.end = time.time()


def walk(bed, address):
    """All rows, with their results."""
    rows, said = [], {}
    try:
        for of_round in rounds(bed.scale > 1):
            wanted = of_round.elements()
            changes = {**{key: None for key in said if key not in wanted},
                       **{key: mode for key, mode in wanted.items() if said.get(key) != mode}}
            said = wanted
            write(bed, changes)
            kinds = itertools.product((4, 6), EXPECTED)
            fresh = [Row(number, of_round, *kind, version, address) for number, (version, kind) in enumerate(kinds, len(rows))]
            run_round(bed, of_round, fresh)
            rows += fresh
    finally:
        # Elements other than the mesh's are gone with renamed(); ports of every pod are not.
        write(bed, {key: None for key in said if key[0] == PORT and not key[1]})
    return rows


def on_wire(bed, path):
    """The connections of a capture, and all its bytes."""
    done = subprocess.run([bed.tools + "/wirecheck", "-l", path], capture_output=True, text=True, timeout=60, check=True)
    flows = [json.loads(line) for line in done.stdout.splitlines()[:-1]]
    for flow in flows:
        for end in ("client", "server"):
            host, _, port = flow[end].rpartition(":")
            flow[end] = host.strip("[]"), int(port)
    with open(path, "rb") as file:
        return flows, file.read()


@contextlib.contextmanager
def captured(bed, path):
    if bed.capturing:  # with --only
        bed.stop_capture()
    bed.testbed("capture", path)
    try:
        yield
    finally:
        told = bed.stop_capture()
    equal(int(re.search(r"(\d+) packets? dropped by kernel", told).group(1)), 0, "packets tcpdump missed")


@case("every mode at every scope to and from every kind of peer, IPv4 and IPv6: both ends, and the wire", mesh=True)
def table(bed):
    known = {item.name for item in tap.CASES}
    equal([row for row, name in (*FIXED.items(), *OPERATORS.items()) if name not in known], [], "rows without a case")
    path = bed.dir + "/table.pcap"
    with renamed(bed), surroundings(bed) as address:
        with captured(bed, path):
            begin = time.monotonic()
            rows = walk(bed, address)
            seconds = time.monotonic() - begin
        accepted = [entry for place in "abx" for entry in bed.agent(place).call(seen)]
    flows, text = on_wire(bed, path)
    os.unlink(path)
    readable = set(re.findall(rb"MODE-TABLE-\d+;", text))
    ports = {port for peers in PEERS.values() for _, port, _ in peers.values()}
    at = collections.defaultdict(lambda: ([], []))  # of each server's port: on the wire, accepted
    for flow in flows:
        if flow["server"][1] in ports:
            at[flow["server"]][0].append(flow)
    for entry in accepted:
        at[entry[1:3]][1].append(entry)
    wrong = []
    for row in rows:
        sent, taken = at[row.server, row.port]
        mine = [flow for flow in sent if row.during(flow["began"]) and flow["client"][0] == row.client]
        got = [entry for entry in taken if row.during(entry[0])]
        for item in mine:
            sent.remove(item)
        for item in got:
            taken.remove(item)
        faults = row.faults(mine, [first for _, _, _, first in got], row.text in readable)
        if faults:
            wrong.append(f"{row.name}, not {row.expected}: {', '.join(faults)}")
    check(not wrong, f"{len(wrong)} of {len(rows)} rows: " + "; ".join(wrong[:8]))
    equal([left for left in at.values() if any(left)], [], "connections that belong to no row")
    equal(len(rows), (3 * 5 + 2 * 4 if bed.scale > 1 else 3 * 4 + 4) * len(EXPECTED) * 2, "rows")
    return f"{len(rows)} rows in {seconds:.1f} s"


SERVICE = """table inet service {{
	chain to {{
		type nat hook prerouting priority dstnat
		ip daddr 10.89.7.1 dnat ip to {c4}
		ip daddr 10.89.7.2 dnat ip to {a4}
		ip6 daddr fd89:7::1 dnat ip6 to {c6}
		ip6 daddr fd89:7::2 dnat ip6 to {a6}
	}}
	chain back {{
		type nat hook postrouting priority srcnat
		oifname {{ "pod-a", "pod-c" }} ip saddr {a4} snat ip to {n14}
		oifname {{ "pod-a", "pod-c" }} ip6 saddr {a6} snat ip6 to {n16}
	}}
}}
"""
VIPS = {"c": {4: "10.89.7.1", 6: "fd89:7::1"}, "a": {4: "10.89.7.2", 6: "fd89:7::2"}}
PROBE = 5951


@contextlib.contextmanager
def service(bed):
    """Addresses that lead from node 1 back to its own pods, and are translated on the way; a peer for each. The
    node's own address is bypassed on the probe's port."""
    path = bed.dir + "/service.nft"
    with open(path, "w", encoding="ascii") as file:
        file.write(SERVICE.format(**{place: bed.env[place] for place in ("a4", "a6", "c4", "c6", "n14", "n16")}))
    bed.run("n1", "nft", "-f", path)
    prefixes = ("10.89.7.0/24", "fd89:7::/64")
    nodes = (bed.address("n1") + "/32", bed.address("n1", 6) + "/128")
    for prefix in prefixes:
        bed.kmtls(1, "peer", "add", prefix, "--namespace", "default", "--trust-domain", "example.org")
    for node in nodes:
        bed.kmtls(1, "peer", "add", node, "--bypass", "--port", str(PROBE))
    try:
        yield
    finally:
        for prefix in (*prefixes, *nodes):
            bed.kmtls(1, "peer", "del", prefix)
        bed.run("n1", "nft", "delete", "table", "inet", "service")


def behind(bed, to, version, port):
    """Connects pod a to a pod through its service address, and talks. The seconds of connect()."""
    listener = bed.agent(to).listen("" if version == 4 else "::", port)
    start = time.monotonic()
    client = bed.agent("a").connect(VIPS[to][version], port)
    seconds = time.monotonic() - start
    server, peer = listener.accept()
    equal(peer[0].removeprefix("::ffff:"), bed.address("n1", version), "the address the server sees")
    equal(client.getpeername()[0], VIPS[to][version], "the address the client sees")
    talk(client, server, b"THROUGH-A-SERVICE")
    for sock in (client, server, listener):
        sock.close()
    return seconds


@case("strict: through a service address back to the same node, and to the pod itself: mutual TLS", mesh=True)
def hairpin(bed):
    """Also to the probe's port, for which the address they come from is bypassed."""
    before, slowest = bed.counters(1), 0
    with service(bed):
        paths = {to: f"{bed.dir}/hairpin-{to}.pcap" for to in VIPS}
        taken = [bed.listen_on_wire("n1", f"pod-{to}", path) for to, path in paths.items()]
        for to, version, port in itertools.product(VIPS, (4, 6), (5935, PROBE)):
            slowest = max(slowest, behind(bed, to, version, port))
        bed.stop_listening(taken[0])
        taken[1].send_signal(signal.SIGINT)
        taken[1].wait(20)
    for to, path in paths.items():
        flows, text = on_wire(bed, path)
        os.unlink(path)
        # Those to c pass a's link once, those to a itself twice.
        equal([flow["kind"] for flow in flows], ["tls"] * {"c": 4, "a": 4 + 8}[to], f"on the link of {to}")
        check(b"THROUGH-A-SERVICE" not in text, "their text is readable")
    after = bed.counters(1)
    equal({name: after.get(name, 0) - before.get(name, 0) for name in ("established", "plaintext")},
          {"established": 16, "plaintext": 0}, "counted, at both ends")
    return f"slowest connect() {slowest:.2f} s"
