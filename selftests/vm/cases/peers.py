# SPDX-License-Identifier: Apache-2.0
"""The peers map: whom an address is promised to be, files of peers, full maps, and the same by bpftool."""
import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import threading
import time

from lib.maps import entries as map_entries
from lib.tap import Skip, case, check, contains, equal, not_reached, until

from .policy import connect_and_talk
from .streams import REFUSED, refusal

TEXT = b"KMTLS-PLAINTEXT-MARKER"
DOMAIN = "example.org"
NAMESPACE = "default"  # of the pods of the testbed: spiffe://example.org/ns/default/sa/POD
SERVICE = {4: "10.89.2.0/24", 6: "fd89:2::/64"}  # pods b and d; b
BACKENDS = (("b", 4), ("d", 4), ("b", 6))
BPF_F_MMAPABLE = 1 << 10


# --- maps as bpftool sees them ---------------------------------------------------------------------


def bpftool(*args, status=0):
    done = subprocess.run(["bpftool", "-j", *args], capture_output=True, text=True, timeout=100, check=False)
    if status is not None:
        equal(done.returncode, status, f"status of bpftool {' '.join(args)[:200]} ({done.stdout[:300]}{done.stderr[:300]})")
    return json.loads(done.stdout) if done.stdout.strip() else None


def hash_bytes(text):
    """The key of a text as this machine has it in memory."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return number.to_bytes(8, "little")


def hexes(data):
    return [f"{byte:02x}" for byte in data]


def address_bytes(text):
    if ":" in text:
        import socket
        return socket.inet_pton(socket.AF_INET6, text)
    return bytes(10) + b"\xff\xff" + bytes(int(part) for part in text.split("."))


def key_bytes(prefix):
    address, length = prefix.split("/")
    return (int(length) + (0 if ":" in address else 96)).to_bytes(4, "little") + address_bytes(address)


def value_bytes(text=None, kind=1, match=1, ports=()):
    fixed = (hash_bytes(text) if text else bytes(8)) + bytes((kind, match, len(ports))) + bytes(5)
    return (fixed + b"".join(port.to_bytes(2, "little") for port in ports)).ljust(32, b"\0")


def name_words(directory, text):
    value = len(text).to_bytes(4, "little") + text.encode().ljust(2052, b"\0")
    return ("map", "update", "pinned", directory + "/names", "key", "hex", *hexes(hash_bytes(text)), "value", "hex",
            *hexes(value))


def write_name(directory, text):
    bpftool(*name_words(directory, text))


def write_names(directory, texts):
    """Many, by one bpftool."""
    lines = "".join(" ".join(name_words(directory, text)) + "\n" for text in texts)
    done = subprocess.run(["bpftool", "batch", "file", "-"], input=lines, capture_output=True, text=True, timeout=100,
                          check=False)
    equal(done.returncode, 0, f"status of bpftool batch: {done.stdout[-300:]}{done.stderr[-300:]}")


def write_peer(directory, prefix, value):
    bpftool("map", "update", "pinned", directory + "/peers", "key", "hex", *hexes(key_bytes(prefix)), "value", "hex",
            *hexes(value))


def delete_peer(directory, prefix):
    bpftool("map", "delete", "pinned", directory + "/peers", "key", "hex", *hexes(key_bytes(prefix)))


def contents(directory, name="peers"):
    """The entries of a map, in an order of their own: for comparing and counting."""
    return map_entries(f"{directory}/{name}")


def both(directory):
    return contents(directory), contents(directory, "names")


def entry_of(directory, prefix):
    """Exactly this prefix's key and value, as bytes; a lookup would give the longest that fits."""
    key = hexes(key_bytes(prefix))
    for entry in bpftool("map", "dump", "pinned", directory + "/peers"):
        if [f"{int(byte, 16):02x}" for byte in entry["key"]] == key:
            return [f"{int(byte, 16):02x}" for byte in entry["value"]]
    return None


def pins(bed, node=1):
    return f"{bed.env['pins']}/n{node}"


# --- kmtls -----------------------------------------------------------------------------------------


def load(bed, text, *options, node=1, directory=None, prefix=(), timeout=110):
    """kmtls peer load; the finished process."""
    path = bed.dir + "/peers"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    where = ["--bpf-dir", directory] if directory else []
    return subprocess.run([*prefix, bed.build + "/kmtls", "--json", "--socket",
                           f"{bed.env['state']}/n{node}/control.sock", "peer", "load", path, *where, *options],
                          capture_output=True, text=True, timeout=timeout, check=False)


def loaded(done):
    """Its result; it must have succeeded."""
    check(done.returncode == 0, f"kmtls peer load: status {done.returncode} {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def as_file(peers):
    """What `kmtls peer list` gives, as a file."""
    lines = []
    for peer in peers:
        if peer["kind"] == "bypass":
            lines.append(peer["prefix"] + " --bypass" + "".join(f" --port {port}" for port in peer["ports"]))
        elif peer["match"] == "exact":
            lines.append(f"{peer['prefix']} --id {peer['id']}")
        else:
            domain, _, namespace = peer["id"].removeprefix("spiffe://").partition("/ns/")
            lines.append(f"{peer['prefix']} --trust-domain {domain}" + (f" --namespace {namespace}" if namespace else ""))
    return "\n".join(lines) + "\n"


def many(count, what):
    """Lines for count addresses all over 10/8, without those of the testbed."""
    lines = []
    for i in range(count):
        offset = i * 149
        second = offset >> 16 if offset >> 16 != 89 else 230  # the others do not reach that
        lines.append(f"10.{second}.{offset >> 8 & 255}.{offset & 255} {what}")
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def peers_kept(bed, node=1):
    """Afterwards the peers of the node are what they were."""
    before = as_file(bed.kmtls(node, "peer", "list"))
    try:
        yield before
    finally:
        loaded(load(bed, before, "--replace", node=node))


def as_service(bed, *arguments):
    """b and d are known by their networks only, as one service each."""
    for place, version in BACKENDS:
        bed.kmtls(1, "peer", "del", bed.address(place, version) + ("/32" if version == 4 else "/128"))
    for prefix in SERVICE.values():
        bed.kmtls(1, "peer", "add", prefix, *arguments)


# --- promises --------------------------------------------------------------------------------------


def shown_peer(bed, place, version, port):
    """Connects a to a pod; whom the flow shows as its peer, and whom the log names."""
    since = bed.log_size(1)
    listener = bed.agent(place).listen(bed.address(place, version), port)
    client = bed.agent("a").connect(bed.address(place, version), port)
    server, _ = listener.accept()
    listener.close()
    client.sendall(TEXT)
    equal(server.recv_exactly(len(TEXT)), TEXT, "what the server got")
    local = client.getsockname()[1]
    flow = until(lambda: [flow for flow in bed.flows(1) if flow["self"]["port"] == local and flow["role"] == "client"],
                 "the flow is shown")[0]
    client.close()
    server.close()
    check("reason=wrong-peer" not in bed.log(1, since), "nobody is called a wrong peer")
    return flow["peer"]["id"]


@case("a service address: any backend of the namespace, of the trust domain; flows name the very one", mesh=True)
def any_of(bed):
    for arguments in (("--namespace", NAMESPACE, "--trust-domain", DOMAIN), ("--trust-domain", DOMAIN)):
        with peers_kept(bed):
            as_service(bed, *arguments)
            listed = {peer["prefix"]: peer for peer in bed.kmtls(1, "peer", "list")}
            for prefix in SERVICE.values():
                equal(listed[prefix]["match"], "namespace" if len(arguments) > 2 else "trust-domain", f"match of {prefix}")
                equal(listed[prefix]["id"], "spiffe://example.org" + ("/ns/default" if len(arguments) > 2 else ""),
                      f"ID of {prefix}")
            for number, (place, version) in enumerate(BACKENDS):
                equal(shown_peer(bed, place, version, 5810 + number), bed.env[place + "_id"],
                      f"the peer of a flow to {place} over IPv{version}")


@case("a backend of another namespace or trust domain is a wrong peer", mesh=True, kernel="6.12")
def wrong_namespace(bed):
    for arguments, match in ((("--namespace", "defaul", "--trust-domain", DOMAIN), "namespace"),
                             (("--namespace", "default", "--trust-domain", "example.or"), "namespace"),
                             (("--trust-domain", "elsewhere.org"), "trust-domain")):
        with peers_kept(bed):
            as_service(bed, *arguments)
            for number, (place, version) in enumerate(BACKENDS):
                since, before = bed.log_size(1), bed.counter(1, "wrong-peer")
                listener = bed.agent(place).listen(bed.address(place, version), 5820 + number)
                code, _ = refusal(bed.agent("a"), bed.address(place, version), 5820 + number)
                check(code in REFUSED, f"errno {code}, not ECONNREFUSED or ECONNRESET")
                line = bed.wait_log(1, since, "reason=wrong-peer")
                contains(line, "match=" + match, "the log says what was promised")
                contains(line, "peer_id=" + bed.env[place + "_id"], "the log names who answered")
                equal(bed.counter(1, "wrong-peer"), before + 1, "counter wrong-peer")
                not_reached(listener)


@case("kinds and matches that are not known, and texts that do not fit, fail closed", mesh=True)
def unknown_values(bed):
    directory, prefix = pins(bed), bed.address("b") + "/32"
    exact, namespace = bed.env["b_id"], "spiffe://example.org/ns/default"
    rows = (
        (value_bytes(exact, match=0), "bad-policy"), (value_bytes(exact, match=4), "bad-policy"),
        (value_bytes(exact, match=255), "bad-policy"), (value_bytes(exact, kind=0), "bad-policy"),
        (value_bytes(exact, kind=3), "bad-policy"),
        # A match that is known, with a text that is not one of its kind, or with none.
        (value_bytes(exact, match=2), "no-promise"), (value_bytes(exact, match=3), "no-promise"),
        (value_bytes(namespace, match=3), "no-promise"), (value_bytes("spiffe://example.org", match=2), "no-promise"),
        (value_bytes("spiffe://example.org", match=1), "no-promise"),
        (value_bytes("spiffe://example.org/never/named", match=1), "no-promise"),
        (value_bytes("spiffe://example.org/never-named", match=2), "no-promise"),
    )
    with peers_kept(bed):
        write_name(directory, namespace)
        write_name(directory, "spiffe://example.org")
        listener = bed.agent("b").listen(bed.address("b"), 5830)
        for value, reason in rows:
            write_peer(directory, prefix, value)
            before = bed.counter(1, reason)
            code, _ = refusal(bed.agent("a"), bed.address("b"), 5830)
            what = f"kind {value[8]} match {value[9]}"
            check(code == errno.EPERM if reason == "bad-policy" else code in REFUSED, f"{what}: errno {code}")
            until(lambda: bed.counter(1, reason) == before + 1, f"{what}: {reason} is counted once", 5)
        not_reached(listener)


@case("the same entry by kmtls and by bpftool alone, and both are obeyed", mesh=True, kernel="6.12")
def equals(bed):
    directory, namespace = pins(bed), "spiffe://example.org/ns/default"
    rows = (
        (("--id", bed.env["b_id"]), bed.env["b_id"], value_bytes(bed.env["b_id"])),
        (("--namespace", "default", "--trust-domain", DOMAIN), namespace, value_bytes(namespace, match=2)),
        (("--trust-domain", DOMAIN), "spiffe://example.org", value_bytes("spiffe://example.org", match=3)),
        (("--bypass", "--port", "5841", "--port", "7"), None, value_bytes(kind=2, match=0, ports=(5841, 7))),
    )
    with peers_kept(bed):
        for arguments, text, value in rows:
            for version, length in ((4, 32), (6, 128)):
                place = "b" if text else "x"
                prefix = f"{bed.address(place, version)}/{length}"
                port = 5841
                bed.kmtls(1, "peer", "add", prefix, *arguments)
                by_kmtls = entry_of(directory, prefix)
                equal(by_kmtls, hexes(value), f"what kmtls wrote for {arguments}")
                listed = [peer for peer in bed.kmtls(1, "peer", "list") if peer["prefix"] == prefix]
                connect_and_talk(bed.agent("a"), bed.agent(place), bed.address(place, version), port, TEXT if text else b"x")
                bed.kmtls(1, "peer", "del", prefix)
                check(bed.agent("a").socket(10 if version == 6 else 2).connect_ex(
                    (bed.address(place, version), port)) == errno.EPERM, "without the entry: EPERM")
                if text:
                    write_name(directory, text)
                write_peer(directory, prefix, value)
                equal([peer for peer in bed.kmtls(1, "peer", "list") if peer["prefix"] == prefix], listed,
                      "kmtls peer list")
                connect_and_talk(bed.agent("a"), bed.agent(place), bed.address(place, version), port, TEXT if text else b"x")
                delete_peer(directory, prefix)
                check(bed.agent("a").socket(10 if version == 6 else 2).connect_ex(
                    (bed.address(place, version), port)) == errno.EPERM, "after bpftool took it away: EPERM")


# --- files -----------------------------------------------------------------------------------------


def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return int(re.search(r"^Pss: +(\d+) kB", file.read(), re.M).group(1))


class Dialer(threading.Thread):
    """Connects from a to b again and again, in an agent of its own."""

    def __init__(self, bed):
        super().__init__(daemon=True)
        self.bed, self.done, self.bad, self.good = bed, False, [], 0
        self.agent = bed.new_agent("a")

    def run(self):
        while not self.done:
            sock = self.agent.socket()
            code = sock.connect_ex((self.bed.address("b"), 5001))
            sock.close()
            if code:
                self.bad.append(code)
            else:
                self.good += 1

    def stop(self):
        self.done = True
        self.join(60)
        self.agent.kill()


@case("thousands of prefixes: loaded, obeyed at once, replaced; connects go on; the daemon does not grow",
      mesh=True, timeout=600, kernel="6.12")
def bulk(bed):
    count = 100000 if bed.scale > 1 else 5000
    bed.agent("b")
    with peers_kept(bed) as before:
        room = bed.kmtls(1, "status")["maps"]["peers"]
        check(room["capacity"] >= 131072, f"room for {room['capacity']} peers")
        loaded(load(bed, many(10, "--bypass")))
        connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), 5850, TEXT)
        with_ten = pss(bed.worker_pid(1))
        extra = [(many(count, "--namespace default --trust-domain example.org"), "namespace"),
                 (many(count, "--bypass --port 80"), "bypass")]
        service = SERVICE[4] + " --namespace default --trust-domain example.org\n"
        rest = "".join(line + "\n" for line in before.splitlines()
                       if not line.startswith((bed.address("b") + "/", bed.address("d") + "/")))
        times = []
        dialer = Dialer(bed)
        dialer.start()
        try:
            for text, _ in extra:
                start = time.monotonic()
                result = loaded(load(bed, rest + service + text, "--replace", timeout=400))
                times.append(time.monotonic() - start)
                equal(result["written"], True, "written")
                # Right afterwards, by what the file says.
                connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), 5851, TEXT)
        finally:
            dialer.stop()
        check(not dialer.bad and dialer.good, f"{dialer.good} connects meanwhile, failed: {dialer.bad[:5]}")
        entries = bed.kmtls(1, "status")["maps"]["peers"]["entries"]
        equal(entries, len(set((rest + service + extra[0][0]).split("\n")) - {""}), "entries of the map")
        connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), 5852, TEXT)
        with_many = pss(bed.worker_pid(1))
        check(with_many - with_ten < 2048, f"the worker's PSS went from {with_ten} to {with_many} kB")
        equal(loaded(load(bed, rest + service + extra[1][0], "--replace", timeout=400))["changed"], 0,
              "changes by the same file")
    return (f"{count} prefixes: {times[0]:.1f} s, changed in {times[1]:.1f} s; {dialer.good} connects meanwhile; "
            f"worker's PSS with 10 peers {with_ten} kB, with {count} {with_many} kB")


FIRST = "10.1.0.1 --bypass\n"
WRONG = (
    ("10.1.0.1/8 --bypass\n", ":1: 10.1.0.1/8: bits are set beyond the prefix length"),
    (FIRST + "\n# c\n10.0.0.0/33 --bypass\n", ":4: 10.0.0.0/33: prefix length must be 0 to 32"),
    (FIRST + "fd00::/129 --bypass\n", ":2: fd00::/129: prefix length must be 0 to 128"),
    (FIRST + "host --bypass\n", ":2: host: must be an IP address or ADDRESS/LENGTH"),
    (FIRST + "10.1.0.2\n", ":2: --id ID, --trust-domain TD or --bypass: one of them is needed"),
    (FIRST + "10.1.0.2 --id spiffe://TD/a\n", ":2: --id spiffe://TD/a: the trust domain has an upper-case letter"),
    (FIRST + "10.1.0.2 --id spiffe://td\n", ":2: --id spiffe://td: it names a trust domain, not a workload"),
    (FIRST + "10.1.0.2 --namespace a\n", ":2: --namespace: only together with --trust-domain"),
    (FIRST + "10.1.0.2 --namespace a/b --trust-domain td\n",
     ":2: --namespace a/b --trust-domain td: the namespace has a slash"),
    (FIRST + "10.1.0.2 --trust-domain td --bypass\n", ":2: --id, --trust-domain and --bypass exclude each other"),
    (FIRST + "10.1.0.2 --bypass --port 65536\n", ":2: --port 65536: must be a number from 1 to 65535"),
    (FIRST + "10.1.0.2 --bypass" + "".join(f" --port {n}" for n in range(1, 10)) + "\n",
     ":2: --port: at most 8 of them"),
    (FIRST + "10.1.0.2 --port 1 --trust-domain td\n", ":2: --port: only together with --bypass"),
    (FIRST + "10.1.0.2 --by\n", ":2: --by: unknown option"),
    (FIRST + "10.1.0.2 mesh\n", ":2: mesh: unexpected word"),
    (FIRST + "10.1.0.2 --id\n", ":2: --id: a value is missing"),
    (FIRST + "10.1.0.2 --bypass\r\n", ":2: a carriage return: lines end with a newline alone"),
    (FIRST + "10.1.0.2 --trust-domain t\u00e4\n", ":2: a byte that is not printable ASCII"),
    (FIRST + "10.1.0.2\0 --bypass\n", ":2: a zero byte"),
    (FIRST + "# " + "x" * 4095 + "\n", ":2: the line is longer than 4096 bytes"),
    (FIRST + "10.1.0.2 --bypass\n" + FIRST, ":3: 10.1.0.1/32: is on line 1 already"),
    (FIRST + "10.1.0.1/32 --id spiffe://td/a\n", ":2: 10.1.0.1/32: is on line 1 already"),
)


@case("a wrong file: its line and rule are named, nothing is written; so with wrong arguments", mesh=True,
      kernel="6.12")
def wrong_files(bed):
    before = both(pins(bed))
    for text, rule in WRONG:
        done = load(bed, text, "--replace")
        equal((done.returncode, done.stdout, done.stderr), (2, "", f"kmtls peer load: {bed.dir}/peers{rule}\n"),
              f"what is said about {text[-40:]!r}")
    kmtls = [bed.build + "/kmtls", "--socket", f"{bed.env['state']}/n1/control.sock", "peer"]
    for arguments, status, said in (
            (("load",), 2, "FILE: is missing"),
            (("load", "/nonexistent"), 2, "/nonexistent: No such file or directory"),
            (("load", "/tmp"), 2, "/tmp: Is a directory"),
            (("load", "/dev/null", "--replac"), 2, "--replac: unknown option"),
            (("load", "/dev/null", "--bpf-dir"), 2, "--bpf-dir: a value is missing"),
            (("load", "/dev/null", "--bpf-dir", "/tmp"), 1,
             "/tmp/settings: No such file or directory: kmtlsd has not been started, or has another bpf_dir "
             "(--bpf-dir DIR)"),
            (("load", "a", "b"), 2, "b: unexpected argument"),
            (("add", "10.1.0.1", "--namespace", "a"), 2,
             "--id ID, --trust-domain TD or --bypass: exactly one of them is needed"),
            (("add", "10.1.0.1", "--namespace", "a", "--bypass"), 2, "--namespace: only together with --trust-domain"),
            (("add", "10.1.0.1", "--trust-domain", "td", "--bypass"), 2,
             "--id ID, --trust-domain TD or --bypass: exactly one of them is needed"),
            (("add", "10.1.0.1", "--trust-domain", "td", "--port", "1"), 2, "--port: only together with --bypass"),
            (("add", "10.1.0.1", "--trust-domain", "a/b"), 2,
             "--trust-domain a/b: the trust domain has a byte outside of a-z 0-9 . - _"),
            (("add", "10.1.0.1", "--namespace", "*", "--trust-domain", "td"), 2,
             "--namespace * --trust-domain td: the path has a byte outside of a-z A-Z 0-9 . - _"),
            (("add", "10.1.0.1", "--id", "spiffe://td"), 2,
             "--id spiffe://td: it names a trust domain, not a workload")):
        done = subprocess.run([*kmtls, *arguments], capture_output=True, text=True, timeout=30, check=False)
        equal((done.returncode, done.stdout, done.stderr), (status, "", f"kmtls peer {arguments[0]}: {said}\n"),
              f"kmtls peer {' '.join(arguments)}")
    equal(both(pins(bed)), before, "the maps afterwards")


@case("--dry-run and --diff say what would change and write nothing; without --replace nothing is deleted", mesh=True,
      kernel="6.12")
def dry_run(bed):
    directory = pins(bed)
    a = bed.address("a") + "/32"
    text = f"10.1.0.1 --bypass --port 80\n{a} --namespace default --trust-domain example.org\n"
    with peers_kept(bed) as kept:
        before = both(directory)
        total = len(kept.splitlines())
        result = loaded(load(bed, text, "--dry-run"))
        equal(result, {"added": 1, "changed": 1, "deleted": 0, "unchanged": total - 1, "written": False}, "--dry-run")
        result = loaded(load(bed, text, "--diff", "--replace"))
        changes = {change["prefix"]: change for change in result.pop("changes")}
        equal(result, {"added": 1, "changed": 1, "deleted": total - 1, "unchanged": 0, "written": False}, "--diff")
        equal(changes["10.1.0.1/32"], {"prefix": "10.1.0.1/32", "action": "added", "after": "--bypass --port 80"}, "added")
        equal(changes[a], {"prefix": a, "action": "changed", "before": "exact " + bed.env["a_id"],
                           "after": "namespace spiffe://example.org/ns/default"}, "changed")
        equal(both(directory), before, "the maps afterwards")
        result = loaded(load(bed, text))
        equal(result, {"added": 1, "changed": 1, "deleted": 0, "unchanged": total - 1, "written": True}, "without it")
        equal(entry_of(directory, a), hexes(value_bytes("spiffe://example.org/ns/default", match=2)), "the changed entry")


# --- failing writes --------------------------------------------------------------------------------


@contextlib.contextmanager
def own_maps(bed, peers, names, modes=100, authorizations=100):
    """Maps like the daemon's, but as small as wanted; the directory they are pinned in."""
    directory = bed.env["pins"] + "/small"
    os.makedirs(directory + "/internal")
    try:
        for name, kind, key, value, entries, flags in (
                ("settings", "array", 4, 16, 1, BPF_F_MMAPABLE), ("peers", "lpm_trie", 20, 32, peers, 1),
                ("names", "hash", 8, 2056, names, 1), ("counters", "percpu_array", 4, 8, 128, 0),
                # Those that are asked before a text counts as unused.
                ("modes", "hash", 16, 4, modes, 1), ("authorizations", "hash", 24, 4, authorizations, 1),
                ("pods", "hash", 8, 72, 16, 0), ("flows", "array", 4, 192, 16, BPF_F_MMAPABLE)):
            bpftool("map", "create", f"{directory}/{name}", "type", kind, "key", str(key), "value", str(value),
                    "entries", str(entries), "name", name, "flags", str(flags))
        bpftool("map", "update", "pinned", directory + "/settings", "key", *"0000", "value", "1", *"0" * 15)
        yield directory
    finally:
        shutil.rmtree(directory)


def exact(first, last):
    return "".join(f"10.{200 + (i >> 16)}.{i >> 8 & 255}.{i & 255} --id spiffe://example.org/ns/n/sa/s{i}\n" for i in range(first, last))


def full_writes(directory):
    values = bpftool("map", "lookup", "pinned", directory + "/counters", "key", "115", "0", "0", "0")["values"]
    return sum(int.from_bytes(bytes(int(byte, 16) for byte in value["value"]), "little") for value in values)


def traced(bed, text, directory, inject=None):
    """A load with --replace under strace, which counts its bpf() calls and may make one of them fail."""
    command = ["strace", "-f", "-o", bed.dir + "/trace", "-e", "trace=bpf"]
    if inject:
        command += ["-e", "inject=bpf:" + inject]
    if "signal" not in (inject or ""):
        command.append("--seccomp-bpf")  # no stop at other calls; but a signal gets lost with it
    return load(bed, text, "--replace", directory=directory, prefix=command)


def writing_calls(bed):
    """Of the last traced load: (number, UPDATE_BATCH or DELETE_BATCH)."""
    with open(bed.dir + "/trace", encoding="ascii") as file:
        calls = [re.search(r"bpf\(BPF_MAP_(\w+)", line) for line in file if "bpf(" in line]
    return [(number + 1, call.group(1)) for number, call in enumerate(calls)
            if call and call.group(1) in ("UPDATE_BATCH", "DELETE_BATCH")]


@case("a write that fails half-way: whichever it is, all is as it was before", mesh=True, timeout=300, kernel="6.12")
def rollback(bed):
    with own_maps(bed, 6000, 6000) as directory:
        old = many(1200, "--trust-domain example.org") + exact(0, 200)
        # 1400 come, 150 change, 1050 go, 200 stay; 151 new texts.
        new = (many(200, "--trust-domain example.org") + exact(0, 150).replace("/sa/", "/sb/") +
               many(1400, "--trust-domain example.com").replace("10.", "11."))
        loaded(load(bed, old, "--replace", directory=directory))
        before = both(directory)
        result = loaded(traced(bed, new, directory))
        equal([result[name] for name in ("added", "changed", "deleted", "unchanged")], [1400, 150, 1050, 200], "the plan")
        writes = writing_calls(bed)
        # Texts, entries that come or change, entries that go: in two pieces each.
        equal([kind for _, kind in writes], ["UPDATE_BATCH"] * 4 + ["DELETE_BATCH"] * 2, "writing calls")
        loaded(load(bed, old, "--replace", directory=directory))
        equal(both(directory), before, "back by a file")
        for number, kind in writes:
            done = traced(bed, new, directory, f"error=EIO:when={number}")
            equal((done.returncode, done.stderr), (1, "kmtls peer load: Input/output error; all is as it was before\n"),
                  f"the {number}th call ({kind}) fails")
            equal(both(directory), before, f"the maps when the {number}th call ({kind}) failed")
        # For a moment there is no memory, and then there is.
        for number, _ in (writes[1], writes[2]):
            equal(loaded(traced(bed, new, directory, f"error=ENOMEM:when={number}..{number + 2}"))["added"], 1400, "added")
            loaded(load(bed, old, "--replace", directory=directory))
        equal(both(directory), before, "back by a file")
        # For so long that it is given up, and that taking back meets it, too.
        done = traced(bed, new, directory, f"error=ENOMEM:when={writes[2][0]}..{writes[2][0] + 11}")
        equal((done.returncode, done.stderr), (1, "kmtls peer load: Cannot allocate memory; all is as it was before\n"),
              "no memory for a while")
        equal(both(directory), before, "the maps afterwards")


@case("the default of authorizations set during a load stays", mesh=True, kernel="6.12")
def default_beside(bed):
    """The load waits in its last call, the one that would write back what it has read before."""
    with own_maps(bed, 100, 100) as directory:
        place = "pinned", directory + "/settings", "key", *"0000"

        def deny():
            value = bpftool("map", "lookup", *place)["value"]
            value[4] = "0x02"
            bpftool("map", "update", *place, "value", *value)

        loaded(load(bed, exact(20, 30), directory=directory))
        loaded(traced(bed, exact(20, 30) + exact(0, 10), directory))
        with open(bed.dir + "/trace", encoding="ascii") as file:
            calls = sum("bpf(" in line for line in file)
        loaded(load(bed, exact(20, 30), "--replace", directory=directory))
        timer = threading.Timer(1, deny)
        timer.start()
        loaded(traced(bed, exact(20, 30) + exact(0, 10), directory, f"delay_enter=2000000:when={calls}"))
        timer.join()
        equal(bpftool("map", "lookup", *place)["value"][4], "0x02", "the default that was set meanwhile")


@case("what others write during a load stays, also when the load fails", mesh=True, kernel="6.12")
def beside_others(bed):
    """Each time the load waits for two seconds in one of its calls, with something of others in between."""
    with own_maps(bed, 6000, 6000) as directory:
        loaded(load(bed, exact(0, 20) + "10.99.0.0/24 --bypass\n", directory=directory))
        loaded(traced(bed, exact(0, 10) + exact(30, 40), directory))
        writes = [number for number, _ in writing_calls(bed)]
        loaded(load(bed, exact(0, 20) + "10.99.0.0/24 --bypass\n", "--replace", directory=directory))

        def meanwhile(number, action, error=""):
            timer = threading.Timer(1, action)
            timer.start()
            done = traced(bed, exact(0, 10) + exact(30, 40), directory, f"{error}delay_enter=2000000:when={number}")
            timer.join()
            return done

        # The bypass goes, by somebody else, and then the load fails: it does not come back.
        done = meanwhile(writes[0], lambda: delete_peer(directory, "10.99.0.0/24"), "error=EIO:")
        equal((done.returncode, entry_of(directory, "10.99.0.0/24")), (1, None), "a bypass somebody else deleted")
        write_peer(directory, "10.99.0.0/24", value_bytes(kind=2))

        # What the load was to delete has gone already: it goes on.
        loaded(meanwhile(writes[-1], lambda: delete_peer(directory, "10.99.0.0/24")))
        equal(len(both(directory)[0]), 20, "entries")


@case("an entry with bits beyond its length is the prefix it is, and is not deleted for the one just loaded", mesh=True)
def bits_beyond(bed):
    with own_maps(bed, 100, 100) as directory:
        write_peer(directory, "10.66.0.5/24", value_bytes(kind=2))
        result = loaded(load(bed, "10.66.0.0/24 --id spiffe://example.org/a\n", "--replace", directory=directory))
        equal([result[name] for name in ("added", "changed", "deleted")], [0, 1, 0], "the plan")
        entries = bpftool("map", "dump", "pinned", directory + "/peers")
        equal(len(entries), 1, "entries")
        equal(int(entries[0]["value"][8], 16), 1, "its kind: mesh")


@case("a signal in the middle of a load: all is as it was before", mesh=True, kernel="6.12")
def interrupted(bed):
    with own_maps(bed, 6000, 6000) as directory:
        old, new = exact(0, 100), exact(500, 800)
        loaded(load(bed, old, directory=directory))
        before = both(directory)
        loaded(traced(bed, new, directory))
        writes = writing_calls(bed)
        loaded(load(bed, old, "--replace", directory=directory))
        # After the second of three pieces of texts, and between the last entries that come and those that go.
        for number, _ in (writes[1], writes[-2]):
            done = traced(bed, new, directory, f"signal=SIGTERM:when={number}")
            equal((done.returncode, done.stderr), (1, "kmtls peer load: interrupted; all is as it was before\n"),
                  "what is said")
            equal(both(directory), before, "the maps afterwards")


@case("full maps: loads are refused whole and counted; unused texts make room", mesh=True, kernel="6.12")
def full(bed):
    with own_maps(bed, 1000, 500) as directory:
        loaded(load(bed, exact(0, 400), directory=directory))
        before = both(directory)
        done = load(bed, many(601, "--bypass"), directory=directory)
        equal((done.returncode, done.stderr), (1, "kmtls peer load: the peers map has room for 1000 entries, this needs "
                                                  "1001; nothing was written\n"), "too many peers")
        equal(full_writes(directory), 1, "counter map-full")
        # The kernel itself says no, after 100 of them.
        done = load(bed, exact(400, 501), directory=directory)
        equal((done.returncode, done.stderr), (1, "kmtls peer load: a map is full; all is as it was before\n"),
              "too many texts")
        check(full_writes(directory) > 1, "it is counted")
        equal(both(directory), before, "the maps afterwards")
        # Nothing refers to these, but they fill the map.
        write_names(directory, (f"spiffe://example.org/garbage/{number}" for number in range(100)))
        loaded(load(bed, exact(400, 500), directory=directory))
        equal(len(both(directory)[1]), 500, "texts")
        # What is replaced leaves no text behind.
        loaded(load(bed, exact(0, 10), "--replace", directory=directory))
        equal([len(entries) for entries in both(directory)], [10, 10], "peers and texts")


@case("a full peers map of the daemon: the write is refused and counted, what is there keeps working", mesh=True,
      timeout=400, kernel="6.12")
def full_daemon(bed):
    bed.agent("b")
    with peers_kept(bed) as kept:
        room = bed.kmtls(1, "status")["maps"]["peers"]["capacity"]
        filler = "".join(f"172.{16 + (i >> 16)}.{i >> 8 & 255}.{i & 255} --bypass\n"
                         for i in range(room - len(kept.splitlines())))
        start = time.monotonic()
        loaded(load(bed, filler, timeout=300))
        seconds = time.monotonic() - start
        maps = bed.kmtls(1, "status")["maps"]
        equal(maps["peers"]["entries"], room, "entries of the full map")
        before = bed.counter(1, "map-full")
        done = subprocess.run([bed.build + "/kmtls", "--socket", f"{bed.env['state']}/n1/control.sock", "peer", "add",
                               "10.1.0.1", "--bypass"], capture_output=True, text=True, timeout=60, check=False)
        equal((done.returncode, done.stderr), (1, "kmtls peer add: the peers map refused the entry: it is full\n"),
              "kmtls peer add")
        equal(bed.counter(1, "map-full"), before + 1, "counter map-full")
        for version in (4, 6):
            connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b", version), 5860, TEXT)
        done = subprocess.run([bed.build + "/kmtls", "--socket", f"{bed.env['state']}/n1/control.sock", "status"],
                              capture_output=True, text=True, timeout=60, check=True)
        check(re.search(rf"^peers +{room} +{room} +100 %", done.stdout, re.M), "kmtls status shows 100 %")
    return f"filling {len(filler.splitlines())} entries took {seconds:.1f} s"


@case("a full names map of the daemon: unused texts make room, used ones stay", mesh=True, timeout=400, kernel="6.12")
def full_names(bed):
    if bed.scale == 1:
        raise Skip("only with --long: a full map takes 650 MB of the guest")
    bed.agent("b")
    with peers_kept(bed), own_maps(bed, 131072, 1) as directory:
        # Texts that only entries of another place refer to.
        os.unlink(directory + "/names")
        bpftool("map", "pin", "pinned", pins(bed) + "/names", directory + "/names")
        names = bed.kmtls(1, "status")["maps"]["names"]
        loaded(load(bed, exact(0, names["capacity"] - names["entries"]), directory=directory, timeout=300))
        maps = bed.kmtls(1, "status")["maps"]
        equal(maps["names"]["entries"], names["capacity"], "texts in the full map")
        since = bed.log_size(1)
        start = time.monotonic()
        bed.kmtls(1, "peer", "add", "10.1.0.1", "--id", "spiffe://example.org/one/more")
        seconds = time.monotonic() - start
        contains(bed.wait_log(1, since, "unused texts removed"), "level=info", "the log line")
        listed = bed.kmtls(1, "peer", "list")
        check(all(peer["id"] for peer in listed if peer["kind"] == "mesh"), "every peer has its text")
        check(all(pod["id"] and pod["name"] for pod in bed.kmtls(1, "pod", "list")), "every pod has its texts")
        left = bed.kmtls(1, "status")["maps"]["names"]["entries"]
        check(left <= names["entries"] + 1, f"{left} texts are left, of {names['entries']} before")
        connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), 5870, TEXT)
    return f"making room took {seconds:.1f} s"
