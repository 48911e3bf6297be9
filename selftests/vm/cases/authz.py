# SPDX-License-Identifier: Apache-2.0
"""Who may connect to whom: decided by the server's node, told to the client, and taken back.

What kmtls writes, bpftool alone writes as well: the cases on rules run with both. Rules are on node 2,
where pods b and d are; a (and c) on node 1 connect.
"""
import contextlib
import ctypes
import errno
import hashlib
import json
import os
import signal
import struct
import subprocess
import time

from lib.agent import LIBC
from lib.bed import MARKER
from lib.tap import case, check, contains, equal, not_reached, until

from .limits import limited
from .policy import connect_and_talk, talk
from .streams import pair, refusal

NAMESPACE = "namespace:example.org/default"
TRUST_DOMAIN = "trust-domain:example.org"
KINDS = {"spiffe": 1, "namespace": 2, "trust-domain": 3, "any": 4}
ACTIONS = {"allow": 1, "deny": 2, "dry-run": 3}
TEXT = MARKER.encode()


def digest(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def subject(text):
    """Kind and hash, by the rules of docs/authorization.md."""
    word, _, rest = text.partition(":")
    if word == "any":
        return KINDS[word], 0
    if word == "namespace":
        domain, name = rest.split("/")
        return KINDS[word], digest(f"spiffe://{domain}/ns/{name}")
    return KINDS[word], digest(text if word == "spiffe" else f"spiffe://{rest}")


def key(source, destination, port=0, pad=0):
    (source_kind, source_hash), (destination_kind, destination_hash) = source, destination
    return struct.pack("<QQBBHI", source_hash, destination_hash, source_kind, destination_kind, port, pad)


def hexes(data):
    return ["hex", *(f"{byte:02x}" for byte in data)]


def bpftool(*words):
    done = subprocess.run(["bpftool", *words], capture_output=True, text=True, timeout=30, check=False)
    check(done.returncode == 0, f"bpftool {' '.join(words[:4])}: {done.stdout}{done.stderr}")
    return done.stdout


class ByKmtls:
    """The operator with the command line."""

    def __init__(self, bed):
        self.bed = bed

    def add(self, action, source, destination, port=0):
        self.bed.kmtls(2, "authz", "add", action, source, destination, *(["--port", str(port)] if port else []))

    def delete(self, source, destination, port=0):
        self.bed.kmtls(2, "authz", "del", source, destination, *(["--port", str(port)] if port else []))

    def default(self, action):
        self.bed.kmtls(2, "authz", "default", action)


class ByBpftool:
    """The same without it: no names, no generation."""

    def __init__(self, bed):
        self.map = f"{bed.env['pins']}/n2/authorizations"
        self.settings = f"{bed.env['pins']}/n2/settings"

    def put(self, raw, action):
        bpftool("map", "update", "pinned", self.map, "key", *hexes(raw), "value", *hexes(struct.pack("<I", action)))

    def remove(self, raw):
        bpftool("map", "delete", "pinned", self.map, "key", *hexes(raw))

    def add(self, action, source, destination, port=0):
        self.put(key(subject(source), subject(destination), port), ACTIONS[action])

    def delete(self, source, destination, port=0):
        self.remove(key(subject(source), subject(destination), port))

    def default(self, action):
        self.set_default({"allow": 1, "deny": 2}[action])

    def set_default(self, number):
        value = json.loads(bpftool("-j", "map", "dump", "pinned", self.settings))[0]["value"]
        value[4:8] = [f"0x{byte:02x}" for byte in struct.pack("<I", number)]
        bpftool("map", "update", "pinned", self.settings, "key", "0", "0", "0", "0", "value", *value)


OPERATORS = (ByKmtls, ByBpftool)


@contextlib.contextmanager
def clean(bed):
    """Whatever was written is gone afterwards."""
    tool = ByBpftool(bed)
    try:
        yield
    finally:
        tool.set_default(0)
        for entry in json.loads(bpftool("-j", "map", "dump", "pinned", tool.map)):
            tool.remove(bytes(int(byte, 16) for byte in entry["key"]))


class Counted:
    """What counters of both nodes have gained since."""

    def __init__(self, bed):
        self.bed = bed
        self.before = {node: bed.counters(node) for node in (1, 2)}

    def gained(self, node, name):
        return self.bed.counter(node, name) - self.before[node].get(name, 0)

    def settle(self, **expected):
        """n1_name=..., n2_name=...; '-' in names is '_'."""
        for word, count in expected.items():
            node, name = int(word[1]), word[3:].replace("_", "-")
            until(lambda: self.gained(node, name) == count, f"{name} of node {node} gains {count}, not "
                  f"{self.gained(node, name)}", 5)


def ids(bed):
    return bed.env["a_id"], bed.env["b_id"]


def denied(bed, version, port, client="a", server="b"):
    """A connection that must be refused; there is an application it must not reach."""
    listener = bed.agent(server).listen(bed.address(server, version), port)
    code, seconds = refusal(bed.agent(client), bed.address(server, version), port)
    equal(code, errno.ECONNREFUSED, f"{client} to {server} over IPv{version}, denied")
    check(seconds < 5, f"the denial took {seconds:.1f} s")
    not_reached(listener)


def works(bed, version=4, port=5830, client="a", server="b"):
    connect_and_talk(bed.agent(client), bed.agent(server), bed.address(server, version), port, TEXT)


@case("denied: ECONNREFUSED, the alert, both counters and log lines; by kmtls and by bpftool alone", mesh=True,
      kernel="6.12")
def deny(bed):
    source, destination = ids(bed)
    for operator in (operator(bed) for operator in OPERATORS):
        with clean(bed):
            for version in (4, 6):
                works(bed, version)
                operator.add("deny", source, destination)
                counted, since = Counted(bed), {node: bed.log_size(node) for node in (1, 2)}
                denied(bed, version, 5831)
                counted.settle(n2_denied=1, n1_refused_denied=1, n2_established=0, n1_established=0)
                line = bed.wait_log(2, since[2], "reason=denied")
                for part in (f"peer_id={source}", f"self_id={destination}", f"rule deny {source} to {destination} port any",
                             ":5831", "direction=inbound"):
                    contains(line, part, "the server's log line")
                line = bed.wait_log(1, since[1], "reason=refused-denied")
                contains(line, "alert 49", "the client's log line")
                contains(line, f"peer_id={destination}", "the client's log line")
                # Nobody else is meant.
                works(bed, version, 5832, client="b", server="a")
                works(bed, 4, 5832, client="a", server="d")
                works(bed, 4, 5832, client="c", server="b")
                operator.delete(source, destination)
                works(bed, version, 5833)
                counted.settle(n2_denied=1, n1_refused_denied=1)


@case("every kind of subject, port, deny before allow, and the default; by kmtls and by bpftool alone",
      mesh=True, timeout=240, kernel="6.12")
def rules(bed):
    source, destination = ids(bed)
    other = "spiffe://example.org/ns/default/sa/somebody-else"
    # default, rules, and whether a gets through to b
    table = (
        ("deny", (), False),
        ("deny", (("allow", source, destination, 5834),), True),
        ("deny", (("allow", source, destination, 5835),), False),
        ("deny", (("allow", NAMESPACE, "any"),), True),
        ("deny", (("allow", "namespace:example.org/defaul", "any"), ("allow", other, "any")), False),
        ("deny", (("allow", "any", NAMESPACE, 5834),), True),
        ("deny", (("allow", TRUST_DOMAIN, TRUST_DOMAIN),), True),
        ("deny", (("dry-run", source, destination),), False),
        ("allow", (("deny", "trust-domain:example.com", "any"), ("deny", "any", other)), True),
        ("allow", (("allow", source, destination, 5834), ("deny", "any", "any")), False),
        ("allow", (("allow", source, destination, 5834), ("deny", TRUST_DOMAIN, NAMESPACE, 5834)), False),
        ("allow", (("deny", "any", "any", 5836),), True),
    )
    for operator in (operator(bed) for operator in OPERATORS):
        for number, (default, entries, passes) in enumerate(table):
            with clean(bed):
                operator.default(default)
                for entry in entries:
                    operator.add(*entry)
                version = 4 if number % 2 else 6
                told = bed.kmtls(2, "authz", "test", source, destination, "5834")
                equal(told["result"], "allow" if passes else "deny", f"{default} {entries}: authz test")
                if passes:
                    works(bed, version, 5834)
                else:
                    denied(bed, version, 5834)


@case("a dry-run rule is counted and logged, and the connection passes", mesh=True, kernel="6.12")
def dry_run(bed):
    source, destination = ids(bed)
    for operator in (operator(bed) for operator in OPERATORS):
        with clean(bed):
            operator.add("dry-run", NAMESPACE, destination, 5837)
            for version in (4, 6):
                counted, since = Counted(bed), bed.log_size(2)
                works(bed, version, 5837)
                works(bed, version, 5838)  # not meant
                counted.settle(n2_would_deny=1, n2_denied=0, n2_established=2)
                line = bed.wait_log(2, since, "reason=would-deny")
                for part in (f"peer_id={source}", f"self_id={destination}", "port 5837", ":5837",
                             f"rule dry-run {NAMESPACE} to {destination}"):
                    contains(line, part, "the log line")


@case("what this version cannot read denies: action, default, and fields of a key", mesh=True, kernel="6.12")
def unknown(bed):
    source, destination = ids(bed)
    tool = ByBpftool(bed)
    exact = subject(source), subject(destination)
    with clean(bed):
        for action in (0, 7):
            tool.put(key(*exact, 5839), action)
            since = bed.log_size(2)
            denied(bed, 4, 5839)
            contains(bed.wait_log(2, since, "reason=denied"), f"rule unknown-{action} {source}", "the log line")
            works(bed, 4, 5840)
        tool.remove(key(*exact, 5839))
        tool.set_default(9)
        since = bed.log_size(2)
        denied(bed, 6, 5839)
        contains(bed.wait_log(2, since, "reason=denied"), "authorization_default", "the log line")
        tool.set_default(0)
        # Found by no exact key: seen by the look at the whole map, within half a second. c is not meant.
        for raw in (key((9, 1), exact[1], 5839), key(exact[0], (0, 0)), key(*exact, 0, pad=1)):
            since = bed.log_size(2)
            tool.put(raw, ACTIONS["deny"])
            bed.wait_log(2, since, "authorizations not readable", "entries=1")
            denied(bed, 4, 5839)
            contains(bed.wait_log(2, since, "reason=denied"), "not readable", "the log line")
            if raw != key((9, 1), exact[1], 5839):
                works(bed, 4, 5841, client="c")
            listed = bed.kmtls(2, "authz", "list")
            equal([entry["readable"] for entry in listed], [False], "what the list says of it")
            tool.put(raw, ACTIONS["allow"])  # does nobody harm
            works(bed, 4, 5842)
            tool.remove(raw)
            until(lambda: not bed.kmtls(2, "authz", "list"), "it is gone", 3)
        time.sleep(1.5)
        works(bed, 4, 5843)


class Flow:
    """A connection that is in use. The time counts from when the tool that wrote the rule has ended."""

    def __init__(self, bed, version, client, server, port):
        self.name = f"{client} to {server}:{port} over IPv{version}"
        self.here, self.there = pair(bed, version, client, server, port)
        self.check()
        self.end = None

    def check(self):
        talk(self.here, self.there, TEXT)

    def watch(self):
        """From now on both ends read until the end comes."""
        self.end = self.here.start("drain"), self.there.start("drain")

    def reset_after(self, start):
        """Both ends must get ECONNRESET; how many seconds after start the client did."""
        codes = [side.agent.result(number) for side, number in zip((self.here, self.there), self.end)]
        equal([code for code, _, _ in codes], [errno.ECONNRESET] * 2, f"{self.name}: how it ends")
        return codes[0][1] - start


def flows(bed, ports):
    """What a rule for a to b on ports[0] forbids, and what it does not; both with IPv4 and IPv6."""
    meant = [Flow(bed, version, "a", "b", ports[0]) for version in (4, 6)]
    rest = [Flow(bed, version, "a", "b", ports[1]) for version in (4, 6)]
    rest += [Flow(bed, 4, "a", "d", ports[0]), Flow(bed, 4, "c", "b", ports[0]), Flow(bed, 6, "b", "a", ports[0])]
    return meant, rest


@case("a rule resets the flows it forbids within two seconds, and no other; by kmtls and by bpftool alone", mesh=True)
def reset(bed):
    source, destination = ids(bed)
    said = []
    for number, operator in enumerate(operator(bed) for operator in OPERATORS):
        with clean(bed):
            meant, rest = flows(bed, (5844 + 2 * number, 5845 + 2 * number))
            for flow in meant:
                flow.watch()
            counted, since = Counted(bed), bed.log_size(2)
            operator.add("deny", source, destination, 5844 + 2 * number)
            start = time.monotonic()
            seconds = [flow.reset_after(start) for flow in meant]
            check(max(seconds) < 2, f"reset after {seconds} s")
            counted.settle(n2_unauthorized=2, n1_peer_reset=2, n2_denied=0)
            line = bed.wait_log(2, since, "reason=unauthorized")
            for part in (f"peer_id={source}", f"self_id={destination}", "rule deny", f"port {5844 + 2 * number}"):
                contains(line, part, "the log line")
            time.sleep(2.2)  # two more looks
            for flow in rest:
                flow.check()
            counted.settle(n2_unauthorized=2, n1_unauthorized=0)
            # The default, too; and what is explicitly allowed stays.
            operator.add("allow", source, destination, 5845 + 2 * number)
            for flow in rest[2:4]:
                flow.watch()
            operator.default("deny")
            start = time.monotonic()
            seconds += [flow.reset_after(start) for flow in rest[2:4]]
            check(max(seconds) < 2, f"reset after {seconds} s")
            for flow in rest[:2] + rest[4:]:
                flow.check()
            counted.settle(n2_unauthorized=4, n1_unauthorized=0)
            said.append("/".join(f"{second:.2f}" for second in seconds))
            bed.close_sockets()
    return f"seconds until the reset: {', '.join(said)}"


@case("flows of a worker before this one are reset as well, also if the rule came while there was none", mesh=True)
def killed_worker(bed):
    source, destination = ids(bed)
    operator = ByBpftool(bed)
    with clean(bed):
        meant, rest = flows(bed, (5848, 5849))
        for node in (1, 2):
            bed.kill_worker(node)
        for flow in meant + rest:
            flow.check()
        for flow in meant:
            flow.watch()
        counted = Counted(bed)
        operator.add("deny", source, destination, 5848)
        start = time.monotonic()
        seconds = [flow.reset_after(start) for flow in meant]
        check(max(seconds) < 2, f"reset after {seconds} s")
        counted.settle(n2_unauthorized=2)
        # The keeper is stopped, so that there is no next worker before the rule is there.
        for flow in rest[:2]:
            flow.watch()
        keeper, worker = bed.daemon_pid(2), bed.worker_pid(2)
        os.kill(keeper, signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        operator.add("deny", NAMESPACE, "any", 5849)
        start = time.monotonic()
        os.kill(keeper, signal.SIGCONT)
        later = [flow.reset_after(start) for flow in rest[:2]]
        bed.wait_worker(2, worker)
        for flow in rest[2:]:
            flow.check()
        counted.settle(n2_unauthorized=4, n1_unauthorized=0)
        bed.close_sockets()
    return f"after {max(seconds):.2f} s; {max(later):.2f} s after the keeper went on without a worker"


@case("a connection that was allowed and waits for its application is denied when the rule comes", mesh=True)
def waiting(bed):
    source, destination = ids(bed)
    with clean(bed):
        for version in (4, 6):
            listener = bed.agent("b").socket(10 if version == 6 else 2)
            listener.bind((bed.address("b", version), 5850))
            listener.listen(0)  # one is accepted by the kernel, others wait
            first = bed.agent("a").connect(bed.address("b", version), 5850)
            counted, since = Counted(bed), bed.log_size(1)
            second = bed.agent("a").socket(10 if version == 6 else 2)
            number = second.start("connect_ex", (bed.address("b", version), 5850))
            until(lambda: bed.flow_totals(2)["handshake"] == 1, "the second one waits", 5)
            time.sleep(0.5)
            ByBpftool(bed).add("deny", source, destination, 5850)
            equal(second.agent.result(number), errno.ECONNREFUSED, "how its connect() ends")
            counted.settle(n2_denied=1, n1_refused_denied=1, n2_unauthorized=1)
            contains(bed.wait_log(1, since, "reason=refused-denied"), "alert 49", "the client's log line")
            ByBpftool(bed).delete(source, destination, 5850)
            first.close()
            bed.close_sockets()


@case("kmtls authz: what it shows, and what it says of wrong input", mesh=True, kernel="6.12")
def command(bed):
    source, destination = ids(bed)

    def run(*args):
        done = subprocess.run([bed.build + "/kmtls", "--socket", f"{bed.env['state']}/n2/control.sock", "authz", *args],
                              capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stdout + done.stderr

    with clean(bed):
        equal(run("default"), (0, "allow\n"), "authz default")
        equal(run("test", source, destination, "80"), (0, "allow: default allow\n"), "authz test")
        for words in (("deny", NAMESPACE, destination, "--port", "80"), ("dry-run", TRUST_DOMAIN, "any"),
                      ("allow", source, destination)):
            equal(run("add", *words), (0, ""), "authz add")
        listed = sorted(bed.kmtls(2, "authz", "list"), key=lambda entry: entry["action"])
        equal(listed, [
            {"action": "allow", "source": source, "destination": destination, "port": 0, "readable": True},
            {"action": "deny", "source": NAMESPACE, "destination": destination, "port": 80, "readable": True},
            {"action": "dry-run", "source": TRUST_DOMAIN, "destination": "any", "port": 0, "readable": True},
        ], "authz list --json")
        status, text = run("list")
        check(status == 0 and text.splitlines()[0].split() == ["ACTION", "SOURCE", "DESTINATION", "PORT"], text)
        equal(run("test", source, destination, "80"),
              (0, f"deny: rule deny {NAMESPACE} to {destination} port 80\n"), "authz test")
        equal(run("test", source, destination, "81"),
              (0, f"allow: rule allow {source} to {destination} port any\n"
                  f"would be denied by: rule dry-run {TRUST_DOMAIN} to any port any\n"), "authz test")
        equal(bed.kmtls(2, "authz", "default", "deny"), {"default": "deny"}, "authz default --json")
        equal(run("default"), (0, "deny\n"), "authz default")
        for words, status, said in (
                ((), 2, "authz: an action is missing: add, del, list, default, test"),
                (("set",), 2, "authz: set: unknown action, there are: add, del, list, default, test"),
                (("add",), 2, "authz add: ACTION: is missing"),
                (("add", "permit", "any", "any"), 2, "authz add: permit: must be allow, deny or dry-run"),
                (("add", "allow", "any"), 2, "authz add: DESTINATION: is missing"),
                (("add", "allow", "*", "any"), 2, "authz add: *: must be any, a SPIFFE ID, "
                                                  "namespace:TRUST-DOMAIN/NAME or trust-domain:NAME"),
                (("add", "allow", "any", "namespace:default"), 2,
                 "authz add: namespace:default: must be namespace:TRUST-DOMAIN/NAME"),
                (("add", "allow", "spiffe://example.org", "any"), 2,
                 "authz add: spiffe://example.org: an ID without a path is nobody's (trust-domain:NAME?)"),
                (("add", "allow", "any", "any", "--port", "65536"), 2,
                 "authz add: --port 65536: must be a number from 1 to 65535"),
                (("add", "allow", "any", "any", "--port", "80", "--port", "81"), 2, "authz add: --port: is given twice"),
                (("del", "any"), 2, "authz del: DESTINATION: is missing"),
                (("del", "any", "any"), 1, "authz del: no such entry in the authorizations map"),
                (("list", "all"), 2, "authz list: all: unexpected argument"),
                (("default", "dry-run"), 2, "authz default: dry-run: must be allow or deny"),
                (("default", "allow", "deny"), 2, "authz default: deny: unexpected argument"),
                (("test", "any", destination, "80"), 2, "authz test: SOURCE-ID any: it does not begin with spiffe://"),
                (("test", source, destination), 2, "authz test: PORT: is missing"),
                (("test", source, destination, "0"), 2, "authz test: PORT 0: must be a number from 1 to 65535")):
            equal(run(*words), (status, f"kmtls {said}\n"), f"authz {' '.join(words)}")
        equal(run("del", NAMESPACE, destination, "--port", "80"), (0, ""), "authz del")
        equal(len(bed.kmtls(2, "authz", "list")), 2, "entries left")
        contains(bpftool("map", "dump", "pinned", f"{bed.env['pins']}/n2/authorizations"), '"source_kind": 1',
                 "bpftool knows the fields")


@case("two texts of one hash do not become one rule", mesh=True, kernel="6.12")
def collision(bed):
    source, destination = ids(bed)
    names = f"{bed.env['pins']}/n2/names"
    wanted = "spiffe://example.org/ns/default/sa/wanted"

    def name_value(text):
        return struct.pack("<I2052s", len(text), text.encode())

    with clean(bed):
        hashed = struct.pack("<Q", digest(wanted))
        # The daemon believes no entry whose text has another hash; it does not overwrite it either.
        bpftool("map", "update", "pinned", names, "key", *hexes(hashed), "value", *hexes(name_value(source)))
        done = subprocess.run([bed.build + "/kmtls", "--socket", f"{bed.env['state']}/n2/control.sock", "authz", "add",
                               "allow", wanted, destination], capture_output=True, text=True, timeout=30, check=False)
        equal((done.returncode, done.stderr),
              (1, "kmtls authz add: the names map refused the source: its hash names another text\n"), "authz add")
        equal(bed.kmtls(2, "authz", "list"), [], "entries")
        bpftool("map", "delete", "pinned", names, "key", *hexes(hashed))


def fill(path, count):
    """Entries that mean nobody, count of them, in one system call each 4096."""
    union = ctypes.create_string_buffer(128)
    name = ctypes.create_string_buffer(path.encode())
    struct.pack_into("<Q", union, 0, ctypes.addressof(name))
    fd = LIBC.syscall(321, 7, union, 128)  # BPF_OBJ_GET
    check(fd >= 0, "the map can be opened")
    done = 0
    while done < count:
        some = min(4096, count - done)
        keys = ctypes.create_string_buffer(b"".join(
            key((1, 1 + done + number), (4, 0), 9) for number in range(some)))
        values = ctypes.create_string_buffer(struct.pack("<I", 1) * some)
        ctypes.memset(union, 0, 128)
        # in_batch, out_batch, keys, values, count, map_fd, elem_flags, flags
        struct.pack_into("<QQQQIIQQ", union, 0, 0, 0, ctypes.addressof(keys), ctypes.addressof(values), some, fd, 0, 0)
        result = LIBC.syscall(321, 26, union, 128)  # BPF_MAP_UPDATE_BATCH
        check(result == 0, f"update of {some} entries after {done}: errno {ctypes.get_errno()}")
        done += some
    return fd


@case("a full map: one more is refused loudly, what is there works, and a reset is still in time", mesh=True, timeout=300,
      kernel="6.12")
def full(bed):
    source, destination = ids(bed)
    path = f"{bed.env['pins']}/n2/authorizations"
    with clean_all(bed):
        meant, rest = flows(bed, (5851, 5852))
        ByKmtls(bed).add("allow", source, destination, 5851)
        os.close(fill(path, 65535))
        done = subprocess.run([bed.build + "/kmtls", "--socket", f"{bed.env['state']}/n2/control.sock", "authz", "add",
                               "deny", source, destination], capture_output=True, text=True, timeout=30, check=False)
        equal((done.returncode, done.stderr),
              (1, "kmtls authz add: the authorizations map refused the entry: it is full\n"), "one more")
        works(bed, 4, 5853)
        time.sleep(3)
        for flow in meant:
            flow.watch()
        busy = cpu(bed)
        time.sleep(5)
        busy = (cpu(bed) - busy) / 5
        # In place of the allow.
        ByBpftool(bed).add("deny", source, destination, 5851)
        start = time.monotonic()
        seconds = [flow.reset_after(start) for flow in meant]
        check(max(seconds) < 2, f"reset after {seconds} s")
        for flow in rest:
            flow.check()
        denied(bed, 4, 5851)
        bed.close_sockets()
    return f"reset after {max(seconds):.2f} s; {busy * 100:.1f} % of a CPU for looking, with 65536 entries"


def cpu(bed):
    with open(f"/proc/{bed.worker_pid(2)}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def clean_all(bed):
    """As clean(), for a map too full to be emptied one by one: the daemon begins with a new one."""
    try:
        yield
    finally:
        bed.testbed("stop", "2")
        os.unlink(f"{bed.env['pins']}/n2/authorizations")
        bed.testbed("start", "2")


@case("the default of the configuration holds from the start, and a key that is not there leaves the map alone",
      mesh=True, kernel="6.12")
def configured(bed):
    with clean(bed):
        with limited(bed, 2, "authorization_default: deny"):
            equal(bed.kmtls(2, "authz", "default"), {"default": "deny"}, "the default")
            denied(bed, 4, 5854)
        equal(bed.kmtls(2, "authz", "default"), {"default": "deny"}, "the default, of a daemon that is told nothing")
        denied(bed, 6, 5854)
    works(bed, 4, 5855)
