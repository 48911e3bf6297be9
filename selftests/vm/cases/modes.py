# SPDX-License-Identifier: Apache-2.0
"""Modes, outbound: what each of them does at each scope, on the wire; and the backstop behind them."""
import contextlib
import errno
import hashlib
import os
import re
import socket
import struct
import subprocess
import threading

from lib.tap import Skip, case, check, contains, equal, until

from .connect import forget_stranger
from .peers import contents as entries

POD = "shop/a"  # pod a, under a name that has a namespace
TCP, UDP, SCTP = 6, 17, 132


# --- in agents ----------------------------------------------------------------------------------------


def echo(address, *ports):
    """Listens and sends back what comes, until the agent's sockets are closed."""
    def serve(listener):
        while True:
            accepted, _ = listener.accept()
            threading.Thread(target=copy, args=(accepted,), daemon=True).start()

    def copy(accepted):
        with accepted:
            while data := accepted.recv(65536):
                accepted.sendall(data)

    for port in ports:
        listener = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        threading.Thread(target=serve, args=(listener,), daemon=True).start()


def attempt(address, port, text):
    """Connects and has text sent back: 0, or the errno."""
    try:
        with socket.create_connection((address, port), 10) as sock:
            sock.settimeout(10)
            sock.sendall(text)
            got = b""
            while len(got) < len(text):
                part = sock.recv(len(text) - len(got))
                if not part:
                    return -1
                got += part
            return 0 if got == text else -2
    except TimeoutError:
        return errno.ETIMEDOUT
    except OSError as error:
        return error.errno


def raw_send(packets, destination):
    """Whole packets, IP header and all. The errno of each."""
    v6 = ":" in destination
    results = []
    with socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        for packet in packets:
            try:
                sock.sendto(packet, (destination, 0))
                results.append(0)
            except OSError as error:
                results.append(error.errno)
    return results


# --- what the cases share --------------------------------------------------------------------------------


def policy(bed, *args):
    return bed.kmtls(1, "policy", *args)


@contextlib.contextmanager
def wire(bed):
    """What was on the wire meanwhile, as bytes: call the result afterwards."""
    file = bed.dir + "/modes.pcap"
    if bed.capturing:  # with --only
        bed.stop_capture()
    bed.testbed("capture", file)
    seen = {}
    try:
        yield lambda text: bool(re.search(text if isinstance(text, re.Pattern) else re.escape(text), seen["bytes"]))
    finally:
        told = bed.stop_capture()
        with open(file, "rb") as capture:
            seen["bytes"] = capture.read()
        os.unlink(file)
    equal(int(re.search(r"(\d+) packets? dropped by kernel", told).group(1)), 0, "packets tcpdump missed")


def clear(bed):
    """A strict mesh, and nothing about any pod or namespace."""
    policy(bed, "set", "strict")
    for entry in policy(bed, "show"):
        if entry["name"]:
            policy(bed, "unset", "--" + entry["direction"], "--namespace" if entry["scope"] == "namespace" else "--pod",
                   entry["name"], *(("--port", str(entry["port"])) if entry["port"] else ()))


def enrol(bed, name, pod):
    bed.kmtls(1, "pod", "add", name, "--netns", f"/run/netns/kt-{pod}", "--cgroup", f"{bed.env['cgroup']}/{pod}",
              "--id", bed.env[pod + "_id"])


@contextlib.contextmanager
def renamed(bed):
    """Pod a as shop/a, so that it has a namespace."""
    bed.kmtls(1, "pod", "del", "a")
    enrol(bed, POD, "a")
    try:
        yield
    finally:
        clear(bed)
        bed.kmtls(1, "pod", "del", POD)
        enrol(bed, "a", "a")


@case("nothing overrides a strict mesh; a port can be off for a strict pod otherwise", mesh=True)
def precedence(bed):
    forget_stranger(bed)
    agent, address = bed.agent("a"), bed.address("x")
    bed.agent("x").call(echo, address, 6025, 6026)
    since = bed.log_size(1)
    try:
        answer = policy(bed, "set", "off", "--pod", "a")
        equal(answer["ignored"], True, "policy set says that it is ignored")
        equal(agent.call(attempt, address, 6025, b"IGNORED"), errno.EPERM, "strict mesh, pod off")
        line = bed.wait_log(1, since, "connection refused", "reason=no-peer")
        contains(line, f"destination={address}:6025", "the log names the destination")
        contains(line, f"source={bed.address('a')}:", "the log names the source")
        shown = [entry for entry in policy(bed, "show") if entry["scope"] == "pod"]
        equal([(entry["name"], entry["direction"], entry["mode"], entry["ignored"]) for entry in shown],
              [("a", "inbound", "off", True), ("a", "outbound", "off", True)], "policy show")
        policy(bed, "set", "permissive")
        equal(agent.call(attempt, address, 6025, b"NOT-IGNORED"), 0, "permissive mesh, pod off")
        policy(bed, "set", "strict", "--pod", "a")
        answer = policy(bed, "set", "off", "--outbound", "--pod", "a", "--port", "6025")
        equal(answer["ignored"], False, "nothing is ignored under a permissive mesh")
        equal(agent.call(attempt, address, 6025, b"OPEN-PORT"), 0, "the port that is off")
        equal(agent.call(attempt, address, 6026, b"SHUT-PORT"), errno.EPERM, "another port of the strict pod")
        outbound = [side for side in policy(bed, "show", "a", "--port", "6025") if side["direction"] == "outbound"][0]
        equal(outbound["mode"], "off", "what holds for the port")
        equal([(entry["scope"], entry["decided"]) for entry in outbound["elements"]],
              [("port", True), ("pod", False), ("mesh", False)], "and why")
    finally:
        clear(bed)
    equal(agent.call(attempt, address, 6025, b"STRICT-AGAIN"), errno.EPERM, "strict again")


def bpftool(bed, *words):
    done = subprocess.run(["bpftool", "map", words[0], "pinned", f"{bed.env['pins']}/n1/modes", *words[1:]],
                          capture_output=True, text=True, timeout=30, check=False)
    check(done.returncode == 0, f"bpftool {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def element(scope, name, direction, port=0):
    """The key as bpftool takes it."""
    digest = hashlib.sha256(name.encode()).digest()[:8][::-1] if name else bytes(8)
    return ["hex", *(f"{byte:02x}" for byte in digest + struct.pack("<BBHI", scope, direction, port, 0))]


@case("kmtls policy: what it shows, and what it says of wrong input; bpftool alone does the same", mesh=True,
      kernel="6.12")
def command(bed):
    def run(*args):
        done = subprocess.run([bed.build + "/kmtls", "--socket", f"{bed.env['state']}/n1/control.sock", "policy", *args],
                              capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stdout + done.stderr

    ignored = "ignored: the mesh is strict\n"
    mesh = "the mesh always has a mode, which can only be set to another"
    name = "must be 1 to 127 of A-Z a-z 0-9 . _ -, with at most one / between"
    try:
        for words, status, said in (
                (("set", "off", "--pod", "shop/later", "--port", "80", "--outbound"), 0, ignored),
                (("set", "permissive", "--namespace", "shop"), 0, ignored),
                (("set", "strict", "--namespace", "shop", "--now"), 0, "connections reset: 0\n"),
                (("unset", "--namespace", "shop", "--inbound"), 0, ""),
                (("unset", "--namespace", "shop", "--inbound"), 1, "kmtls policy unset: nothing is said there\n"),
                (("dry-run", "off", "--pod", "a"), 0, ignored + "pods whose mode would change: 0\n"
                                                                "plaintext connections that would be forbidden: 0\n"),
                (("set",), 2, "kmtls policy set: MODE: is missing\n"),
                (("set", "unset"), 2, "kmtls policy set: unset: must be off, permissive or strict\n"),
                (("set", "off", "--pod", "a", "--namespace", "b"), 2,
                 "kmtls policy set: --namespace: cannot be together with --pod\n"),
                (("set", "off", "--namespace", "b", "--port", "1"), 2,
                 "kmtls policy set: --port: cannot be together with --namespace\n"),
                (("set", "off", "--port", "0"), 2, "kmtls policy set: --port 0: must be a number from 1 to 65535\n"),
                (("set", "off", "--inbound", "--outbound"), 2, "kmtls policy set: --inbound: cannot be together with "
                                                               "--outbound; without either it is both\n"),
                (("set", "off", "--pod", "a//b"), 1, f"kmtls policy set: policy-set: pod: {name}\n"),
                (("unset",), 2, f"kmtls policy unset: {mesh}; or --namespace, --pod or --port is missing\n"),
                (("unset", "strict"), 2, "kmtls policy unset: strict: unexpected argument\n"),
                (("dry-run", "on"), 2, "kmtls policy dry-run: on: must be off, permissive or strict\n"),
                (("dry-run", "off", "--now"), 2, "kmtls policy dry-run: --now: unknown option\n"),
                (("show", "a", "b"), 2, "kmtls policy show: b: unexpected argument\n"),
                (("show", "--port", "x"), 2, "kmtls policy show: --port x: must be a number from 1 to 65535\n"),
                (("clear",), 2, "kmtls policy: clear: unknown action, there are: show, set, unset, dry-run\n")):
            equal(run(*words), (status, said), f"policy {' '.join(words)}")
        status, text = run("show")
        rows = [line.split(None, 5) for line in text.splitlines()]
        equal(rows[0], ["SCOPE", "NAME", "DIRECTION", "PORT", "MODE", "REMARK"], "headings")
        check(["port", "shop/later", "outbound", "80", "off", "ignored: the mesh is strict"] in rows and
              ["namespace", "shop", "outbound", "-", "strict", "-"] in rows, text)
        # The same by bpftool alone, for a pod by its name.
        bed.agent("x").call(echo, bed.address("x"), 5832)
        equal(bed.agent("a").call(attempt, bed.address("x"), 5832, b"BPFTOOL"), errno.EPERM, "strict")
        bpftool(bed, "update", "key", *element(1, "", 2), "value", "2", "0", "0", "0")
        bpftool(bed, "update", "key", *element(3, "a", 2), "value", "3", "0", "0", "0")
        equal(bed.agent("a").call(attempt, bed.address("x"), 5832, b"BPFTOOL"), errno.EPERM, "the pod is strict")
        bpftool(bed, "update", "key", *element(4, "a", 2, 5832), "value", "1", "0", "0", "0")
        equal(bed.agent("a").call(attempt, bed.address("x"), 5832, b"BPFTOOL"), 0, "its port is off")
        bpftool(bed, "update", "key", *element(4, "a", 2, 5832), "value", "9", "0", "0", "0")
        equal(bed.agent("a").call(attempt, bed.address("x"), 5832, b"BPFTOOL"), errno.EPERM, "a mode nobody knows")
        shown = [entry for entry in policy(bed, "show", "--port", "5832")]
        equal([(entry["mode"], entry["readable"]) for entry in shown], [("strict", False)], "how it is shown")
    finally:
        clear(bed)


class ByKmtls:
    """The operator with the command line."""

    def __init__(self, bed):
        self.bed = bed

    @staticmethod
    def where(scope, name, port):
        words = {1: (), 2: ("--namespace", name), 3: ("--pod", name), 4: ("--pod", name, "--port", str(port))}[scope]
        return ("--outbound", *words)

    def set(self, mode, scope, name="", port=0):
        policy(self.bed, "set", mode, *self.where(scope, name, port))

    def unset(self, scope, name="", port=0):
        policy(self.bed, "unset", *self.where(scope, name, port))


class ByBpftool:
    """The same without it."""

    def __init__(self, bed):
        self.bed = bed

    def set(self, mode, scope, name="", port=0):
        number = str(("off", "permissive", "strict").index(mode) + 1)
        bpftool(self.bed, "update", "key", *element(scope, name, 2, port), "value", number, "0", "0", "0")

    def unset(self, scope, name="", port=0):
        bpftool(self.bed, "delete", "key", *element(scope, name, 2, port))


@case("modes at every scope by kmtls and by bpftool alone: the same elements, and the same connections", mesh=True)
def operators(bed):
    bed.agent("x").call(echo, bed.address("x"), 6035)
    seen = []
    with renamed(bed):
        for operator in (ByKmtls(bed), ByBpftool(bed)):
            steps = []
            for act, wanted in (
                    (lambda: None, errno.EPERM),  # strict by its configuration
                    (lambda: operator.set("permissive", 1), 0),
                    (lambda: operator.set("strict", 2, "shop"), errno.EPERM),
                    (lambda: operator.set("permissive", 3, POD), 0),
                    (lambda: operator.set("strict", 4, POD, 6035), errno.EPERM),
                    (lambda: operator.set("off", 4, POD, 6035), 0),
                    (lambda: operator.set("strict", 3, POD), 0),
                    (lambda: operator.unset(4, POD, 6035), errno.EPERM),
                    (lambda: operator.unset(3, POD), errno.EPERM),
                    (lambda: operator.unset(2, "shop"), 0),
                    (lambda: operator.set("strict", 1), errno.EPERM)):
                act()
                name = f"{type(operator).__name__}, step {len(steps)}"
                equal(bed.agent("a").call(attempt, bed.address("x"), 6035, b"OPERATORS"), wanted, name)
                steps.append(entries(f"{bed.env['pins']}/n1", "modes"))
            seen.append(steps)
    equal([number for number, (one, other) in enumerate(zip(*seen)) if one != other], [], "steps with other elements")


# --- the backstop ----------------------------------------------------------------------------------------


def ip4(source, destination, protocol, payload, offset=0):
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 77, offset, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(destination)) + payload


def ip6(source, destination, protocol, payload):
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + socket.inet_pton(socket.AF_INET6, source) + \
        socket.inet_pton(socket.AF_INET6, destination) + payload


def syn(source_port, port, text):
    return struct.pack("!HHIIBBHHH", source_port, port, 1, 0, 5 << 4, 2, 1000, 0, 0) + text


def options(count, last):
    """A chain of IPv6 destination options before last."""
    return b"".join(struct.pack("!BBBB4x", last if i + 1 == count else 60, 0, 1, 4) for i in range(count))


def raw_rows(bed):
    """(name, version, packet with its name in it, leaves a strict pod)."""
    a4, x4, a6, x6 = bed.address("a"), bed.address("x"), bed.address("a", 6), bed.address("x", 6)
    fragment = struct.pack("!BBHI", TCP, 0, 1 << 3, 9)
    later_udp = struct.pack("!BBHI", UDP, 0, 1 << 3, 9)

    def text(name):
        return f"RAW-{name};".encode()

    return [
        ("syn4", ip4(a4, x4, TCP, syn(1000, 80, text("syn4"))), False),
        ("syn6", ip6(a6, x6, TCP, syn(1000, 80, text("syn6"))), False),
        ("claims-excluded", ip4(a4, x4, TCP, syn(int(bed.env["excluded_port"]), 80, text("claims-excluded"))), False),
        ("to-excluded", ip4(a4, x4, TCP, syn(1000, int(bed.env["excluded_port"]), text("to-excluded"))), True),
        ("later4", ip4(a4, x4, TCP, b"8 bytes." + text("later4"), 1), False),
        ("later4-udp", ip4(a4, x4, UDP, b"8 bytes." + text("later4-udp"), 1), True),
        ("later6", ip6(a6, x6, 44, fragment + b"8 bytes." + text("later6")), False),
        ("later6-udp", ip6(a6, x6, 44, later_udp + b"8 bytes." + text("later6-udp")), True),
        ("options6", ip6(a6, x6, 60, options(3, TCP) + syn(1000, 80, text("options6"))), False),
        ("endless6", ip6(a6, x6, 60, options(12, TCP) + syn(1000, 80, text("endless6"))), False),
        ("sctp4", ip4(a4, x4, SCTP, struct.pack("!HHII", 1000, 80, 0, 0) + text("sctp4")), False),
        ("udp6", ip6(a6, x6, UDP, struct.pack("!HHHH", 1000, 80, 8 + 9, 0) + text("udp6")), True),
    ]


def send_raw(bed, rows):
    codes = {}
    for v6 in (False, True):
        chosen = [(name, packet) for name, packet, _ in rows if (packet[0] >> 4 == 6) == v6]
        results = bed.agent("a").call(raw_send, [packet for _, packet in chosen], bed.address("x", 6 if v6 else 4))
        codes.update(zip((name for name, _ in chosen), results))
    return codes


@case("the backstop: TCP and SCTP by raw sockets do not leave a strict pod, UDP does", mesh=True)
def raw(bed):
    rows = raw_rows(bed)
    before, since = bed.counter(1, "backstop"), bed.log_size(1)
    with wire(bed) as on_wire:
        send_raw(bed, rows)
    wrong = [name for name, _, leaves in rows if on_wire(f"RAW-{name};".encode()) != leaves]
    equal(wrong, [], "packets that fared otherwise than they should")
    equal(bed.counter(1, "backstop") - before, sum(not leaves for _, _, leaves in rows), "packets counted")
    line = bed.wait_log(1, since, "packet dropped", "reason=backstop", "source=" + bed.address("a") + ":1000")
    contains(line, f"destination={bed.address('x')}:80", "the log line")
    policy(bed, "set", "permissive", "--outbound")
    try:
        with wire(bed) as on_wire:
            send_raw(bed, rows)
    finally:
        policy(bed, "set", "strict", "--outbound")
    wrong = [name for name, _, _ in rows if not on_wire(f"RAW-{name};".encode())]
    equal(wrong, [], "packets that did not leave a permissive pod")


@case("the backstop: connections from before the enrolment say nothing more in a strict pod", mesh=True)
def before_enrolment(bed):
    near, far = bed.agent("c"), bed.agent("x")
    pairs = []
    bed.kmtls(1, "pod", "del", "c")
    try:
        for version in (4, 6):
            listener = far.listen(bed.address("x", version), 6027)
            client = near.connect(bed.address("x", version), 6027)
            pairs.append((f"OUT{version}", client, listener.accept()[0]))
            listener.close()
            listener = near.listen(bed.address("c", version), 6028)
            client = far.connect(bed.address("c", version), 6028)
            pairs.append((f"IN{version}", listener.accept()[0], client))
            listener.close()
        with wire(bed) as on_wire:
            for name, inside, outside in pairs:
                inside.sendall(f"EARLY-{name};".encode())
                outside.recv_exactly(len(f"EARLY-{name};"))
    finally:
        enrol(bed, "c", "c")
    wrong = [name for name, _, _ in pairs if not on_wire(f"EARLY-{name};".encode())]
    equal(wrong, [], "what was not seen before the enrolment")
    before = bed.counter(1, "backstop")
    with wire(bed) as on_wire:
        for name, inside, outside in pairs:
            inside.sendall(f"LATE-{name};".encode())
        until(lambda: bed.counter(1, "backstop") >= before + 8, "the four are repeated, dropped and counted", 10)
    equal([name for name, _, _ in pairs if on_wire(f"LATE-{name};".encode())], [], "plaintext on the wire")
    # What is dropped is not lost: who is let out again says it.
    policy(bed, "set", "permissive")
    try:
        for name, _, outside in pairs:
            equal(outside.recv_exactly(len(f"LATE-{name};")), f"LATE-{name};".encode(), "what arrives in permissive")
    finally:
        policy(bed, "set", "strict")
    # Their end is told to the peer, and carries nothing.
    for name, inside, outside in pairs:
        inside.reset()
        equal(outside.recv_to_end()[1], errno.ECONNRESET, f"how {name} ends at the other side")


@case("--now resets plaintext connections that the mode forbids, and no others", mesh=True)
def now(bed):
    agent, far, mesh = bed.agent("a"), bed.agent("x"), bed.agent("b")
    policy(bed, "set", "permissive")
    try:
        pairs = []
        for version in (4, 6):
            listener = far.listen(bed.address("x", version), 6029)
            client = agent.connect(bed.address("x", version), 6029)
            pairs.append((client, listener.accept()[0], bed.address("x", version)))
            listener.close()
        listener = mesh.listen(bed.address("b"), 5830)
        kept = agent.connect(bed.address("b"), 5830), listener.accept()[0]
        inner = agent.listen("127.0.0.1", 5830)
        local = agent.connect("127.0.0.1", 5830), inner.accept()[0]
        answer = policy(bed, "dry-run", "strict", "--pod", "a")
        equal(sorted(row["peer"].rsplit(":", 1)[0].strip("[]") for row in answer["connections"]),
              sorted(address for _, _, address in pairs), "connections that strict would forbid")
        equal([(row["pod"], row["direction"], row["before"], row["after"]) for row in answer["pods"]],
              [("a", "inbound", "permissive", "strict"), ("a", "outbound", "permissive", "strict")], "pods it would change")
        before, since = bed.counter(1, "forbidden"), bed.log_size(1)
        equal(policy(bed, "set", "strict", "--pod", "c", "--now")["reset"], 0, "connections of another pod")
        equal(policy(bed, "set", "strict", "--pod", "a", "--now")["reset"], 2, "connections reset")
        for client, server, address in pairs:
            equal(client.recv_to_end()[1], errno.ECONNABORTED, f"how the connection to {address} ends here")
            equal(server.recv_to_end()[1], errno.ECONNRESET, "and there")
        equal(bed.counter(1, "forbidden") - before, 2, "counter forbidden")
        contains(bed.wait_log(1, since, "reason=forbidden"), "pod=a", "the log line")
        for near, there in (kept, local):
            near.sendall(b"STILL-THERE")
            equal(there.recv_exactly(11), b"STILL-THERE", "a connection that is not forbidden")
    finally:
        clear(bed)


def sctp_send(address, port, text):
    """One-to-one, then one-to-many without connect(): the errno of each."""
    results = []
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_INET, kind, SCTP) as sock:
            sock.settimeout(3)
            try:
                if kind == socket.SOCK_STREAM:
                    sock.connect((address, port))
                else:
                    sock.setblocking(False)
                    sock.sendto(text, (address, port))
                results.append(0)
            except OSError as error:
                results.append(error.errno or errno.ETIMEDOUT)
    return results


@case("SCTP does not leave a strict pod, not even without connect()", mesh=True)
def sctp(bed):
    if os.system("modprobe -q sctp"):
        raise Skip("the kernel has no SCTP")
    before = bed.counter(1, "backstop")
    with wire(bed) as on_wire:
        codes = bed.agent("a").call(sctp_send, bed.address("x"), 5831, b"SCTP-IN-THE-CLEAR")
        until(lambda: bed.counter(1, "backstop") > before, "the INIT of an implicit connect is dropped", 5)
    check(codes[0], "connect() succeeded")
    source, destination = (socket.inet_aton(bed.address(place)) for place in "ax")
    header = bytes([SCTP]) + b"..", re.escape(source + destination)
    check(not on_wire(re.compile(b"".join(header), re.DOTALL)), "SCTP is on the wire")


@case("a mode set at run time survives a restart unless the configuration names one", mesh=True, kernel="6.12")
def restart(bed):
    def mesh_modes():
        return {entry["direction"]: entry["mode"] for entry in policy(bed, "show") if entry["scope"] == "mesh"}

    bed.configure(1, "mode", None)
    try:
        policy(bed, "set", "off", "--inbound")
        bed.testbed("stop", "1")
        bed.testbed("start", "1")
        equal(mesh_modes(), {"inbound": "off", "outbound": "strict"}, "modes after a restart")
    finally:
        bed.configure(1, "mode", "strict")
        bed.testbed("stop", "1")
        bed.testbed("start", "1")
    equal(mesh_modes(), {"inbound": "strict", "outbound": "strict"}, "modes by the configuration")
