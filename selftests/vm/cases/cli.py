# SPDX-License-Identifier: Apache-2.0
"""The command line that looks and watches: check, flows with filters, monitor, top, settings, dump."""
import base64
import contextlib
import errno
import json
import os
import re
import subprocess
import tarfile
import time

from lib.bed import ROOT
from lib.tap import case, check, contains, equal, until

PORT = 5860
TEXT = b"KMTLS-PLAINTEXT-MARKER"
ID = "spiffe://example.org/ns/default/sa/"


def kmtls(bed, node, *args, env=None, timeout=40):
    """The finished process."""
    return subprocess.run([bed.build + "/kmtls", "--socket", f"{bed.env['state']}/n{node}/control.sock", *args],
                          capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, **(env or {})})


def wrong(bed, node, table):
    """(words, status, what it says after 'kmtls '), each."""
    for words, status, said in table:
        done = kmtls(bed, node, *words)
        equal((done.returncode, done.stdout, done.stderr), (status, "", f"kmtls {said}\n"), f"kmtls {' '.join(words)}")


def pins(bed, node=1):
    return f"{bed.env['pins']}/n{node}"


@contextlib.contextmanager
def connection(bed, near="a", far="b", version=4, port=PORT):
    """Two ends that have talked; closed in the end."""
    listener = bed.agent(far).listen(bed.address(far, version), port)
    client = bed.agent(near).connect(bed.address(far, version), port)
    server, _ = listener.accept()
    listener.close()
    try:
        client.sendall(TEXT)
        equal(server.recv_exactly(len(TEXT)), TEXT, "what arrived")
        yield client, server
    finally:
        client.close()
        server.close()


# --- check -------------------------------------------------------------------------------------------


def report(bed, *args, status=0, directory=None):
    done = kmtls(bed, 1, "--json", "check", *args, *(["--bpf-dir", directory] if directory else []))
    check(done.returncode == status, f"kmtls check: status {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def findings(result, group, level=None):
    return [each["text"] for each in result["checks"] if each["group"] == group and level in (None, each["level"])]


def keeps_ports(bed):
    """Is the port on the wire the one that the socket has inside the pod? (Since 6.3, or where it was ported back.)"""
    listener = bed.agent("b").listen(bed.address("b"), 5770)
    client = bed.agent("a").connect(bed.address("b"), 5770)
    _, peer = listener.accept()
    inside = bed.run("a", "ss", "-Htn", "state", "established", "dst", "127.64.0.0/10").split()
    check(inside, "the application's leg is not found")
    client.close()
    listener.close()
    return any(word.endswith(f":{peer[1]}") for word in inside)


def openssl_of(pid):
    """The version that is written in the libcrypto of a process."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as file:
        path = next(line.split()[-1] for line in file if "/libcrypto.so" in line)
    with open(path, "rb") as file:
        return re.search(rb"OpenSSL (3\.\d+\.\d+\S*) \d+ \w+ \d+", file.read())[1].decode()


@case("check: a node that works has no error; marks as the locale can show them", mesh=True)
def check_fine(bed):
    result = report(bed)
    check(result["result"] in ("ok", "warning"), f"result {result['result']}")
    equal([each for each in result["checks"] if each["level"] == "failed"], [], "what failed")
    equal(findings(result, "kernel", "ok")[0][:7], "kernel ", "the release")
    for pod in "ac":
        equal([text for text in findings(result, "programs", "ok") if text.startswith(f"pod {pod}: all ")],
              [f"pod {pod}: all 15 are attached"], f"programs of pod {pod}")
        check(any(text.startswith(f"pod {pod}: SVID valid until 20") for text in findings(result, "identity", "ok")),
              f"SVID of {pod}: {findings(result, 'identity')}")
    status = bed.kmtls(1, "status")
    rekey = status["rekey"]
    equal(any("keys of flows are replaced" in text for text in findings(result, "daemon", "ok")), rekey, "rekey is fine")
    equal(any("cannot replace keys" in text for text in findings(result, "daemon", "warning")), not rekey, "rekey warns")
    equal([text for text in findings(result, "daemon", "ok") if "OpenSSL" in text],
          [f"it runs with OpenSSL {openssl_of(status['worker'])}"], "the library that the worker has mapped")
    ports = keeps_ports(bed)
    equal(any("the same local port" in text for text in findings(result, "kernel", "ok")), ports, "local ports are kept")
    equal(any("another local port" in text for text in findings(result, "kernel", "warning")), not ports, "or not")
    for locale, fine, bad in (("C.UTF-8", "  √ ", "√"), ("C", "  ok ", "√")):
        text = kmtls(bed, 1, "check", env={"LC_ALL": locale}).stdout
        equal(sum(line.startswith(fine) for line in text.splitlines()),
              sum(each["level"] == "ok" for each in result["checks"]), f"lines with {fine!r}")
        equal(bad in text, locale != "C", "marks beyond ASCII")
        check("\033" not in text, "no colours into a pipe")
        check(text.endswith(("result: all is fine\n", "result: there are warnings\n")), f"the last line: {text[-60:]}")
    wrong(bed, 1, ((("check", "all"), 2, "check: all: unexpected argument"),
                   (("check", "--bpf-dir", "pins"), 2, "check: --bpf-dir pins: must be an absolute path"),
                   (("check", "--fix"), 2, "check: --fix: unknown option")))


@case("check: a program that was taken away, and a daemon that is down, are named; all else is still looked at",
      mesh=True, kernel="6.12")
def check_broken(bed):
    links = pins(bed) + "/links"
    name = next(name for name in os.listdir(links) if re.fullmatch("[0-9a-f]{16}", name))
    program = f"{links}/{name}/connect6"
    os.rename(program, program + "x")
    try:
        result = report(bed, status=1)
        equal(findings(result, "programs", "failed")[0][5:], f": {program}: No such file or directory", "what failed")
        contains(json.dumps(result["checks"]), "its traffic may leave in plaintext", "the advice")
    finally:
        os.rename(program + "x", program)
    equal(findings(report(bed), "programs", "failed"), [], "what failed afterwards")
    done = subprocess.run(["bpftool", "link", "detach", "pinned", program], capture_output=True, text=True, timeout=30,
                          check=False)
    equal((done.returncode, done.stderr), (0, ""), "bpftool link detach")
    bed.testbed("stop", "1")
    try:
        result = report(bed, status=1, directory=pins(bed))
        contains(findings(result, "daemon", "failed")[0], "the daemon does not answer: ", "the daemon")
        equal(findings(result, "programs", "failed")[0][5:], f": {program}: is attached to nothing", "what failed")
        check(any(text.startswith("11 maps at ") for text in findings(result, "maps", "ok")), "maps are looked at")
        contains(findings(result, "identity", "warning")[0], "the daemon does not answer", "identities")
        text = kmtls(bed, 1, "check", "--bpf-dir", pins(bed), env={"LC_ALL": "C.UTF-8"}).stdout
        contains(text, "  × the daemon does not answer: ", "the line of the daemon")
        contains(text, "start kmtlsd", "what to do")
        contains(text, "result: something is wrong", "the last line")
    finally:
        bed.testbed("start", "1")
    until(lambda: report(bed)["result"] != "failed", "all is fine again")


MAPS = {"settings": ("array", 4, 16, 1), "modes": ("hash", 16, 4, 5), "peers": ("lpm_trie", 20, 32, 5),
        "authorizations": ("hash", 24, 4, 5), "names": ("hash", 8, 2056, 5), "pods": ("hash", 8, 72, 5),
        "flows": ("array", 4, 192, 5), "counters": ("percpu_array", 4, 8, 128),
        "udp_ledger": ("lru_hash", 32, 48, 5), "udp_totals": ("hash", 8, 48, 5),
        "peer_expiries": ("lru_hash", 16, 8, 5)}


def bpftool(*args):
    done = subprocess.run(["bpftool", *args], capture_output=True, text=True, timeout=60, check=False)
    equal((done.returncode, done.stderr), (0, ""), f"bpftool {' '.join(args)[:200]}")


def make_maps(directory):
    os.makedirs(directory)
    for name, (kind, key, value, entries) in MAPS.items():
        bpftool("map", "create", f"{directory}/{name}", "type", kind, "key", str(key), "value", str(value), "entries",
                str(entries), "name", name[:15], *(["flags", "1"] if kind == "lpm_trie" else []))


def write(directory, name, number, first=0):
    kind, key, value, _ = MAPS[name]
    begin = [str(number), "0", "0", "0"] if kind == "array" else [str(number + 1)] + ["0"] * (key - 1)
    bpftool("map", "update", "pinned", f"{directory}/{name}", "key", *begin, "value", str(first), *["0"] * (value - 1))


@case("check: maps of another version or size; 80 % full is a warning, full an error", mesh=True, kernel="6.12")
def check_maps(bed):
    directory = f"{bed.env['pins']}/check"

    def maps(level):
        return findings(report(bed, status=1, directory=directory), "maps", level)

    try:
        make_maps(directory)
        contains(maps("failed")[0], "the maps are of version 0, this kmtls speaks 1", "an empty settings map")
        write(directory, "settings", 0, first=1)
        equal(maps("failed"), [], "all maps are as they should be")
        for number in range(4):
            write(directory, "modes", number)
            write(directory, "flows", number, first=2)
        equal(maps("warning"), ["modes: almost full, 4 of 5 entries", "flows: almost full, 4 of 5 entries"], "at 80 %")
        write(directory, "modes", 4)
        write(directory, "flows", 4, first=2)
        equal(maps("failed"), ["modes: full, 5 of 5 entries", "flows: full, 5 of 5 entries"], "at 100 %")
        os.unlink(directory + "/udp_totals")
        contains(maps("failed")[0], "/udp_totals: No such file or directory", "a map that is not there")
        bpftool("map", "create", directory + "/udp_totals", "type", "hash", "key", "8", "value", "8", "entries", "5",
                "name", "udp_totals")
        contains(maps("failed")[0], "keys of 8 and values of 8 bytes, not 8 and 48", "a map of another size")
    finally:
        for name in os.listdir(directory):
            os.unlink(f"{directory}/{name}")
        os.rmdir(directory)


# --- flows -------------------------------------------------------------------------------------------


@case("flows: filters by pod, peer, identity, port and state; --watch", mesh=True, kernel="6.12")
def flows(bed):
    with connection(bed) as (client, _), connection(bed, near="c", version=6, port=PORT + 1):
        near = client.getsockname()[1]

        def ports(*args):
            return sorted(flow["peer"]["port"] for flow in bed.kmtls(1, "flows", *args)
                          if flow["peer"]["port"] in (PORT, PORT + 1))

        b4, b6 = bed.address("b"), bed.address("b", 6)
        for words, expected in (
                ((), [PORT, PORT + 1]), (("--pod", "a"), [PORT]), (("--pod", "c"), [PORT + 1]),
                (("--peer", b4), [PORT]), (("--peer", b6), [PORT + 1]), (("--peer", "0.0.0.0/0"), [PORT]),
                (("--peer", "::/0"), [PORT, PORT + 1]), (("--peer", "10.99.0.0/16"), []),
                (("--id", ID + "b"), [PORT, PORT + 1]), (("--id", ID + "a"), [PORT]), (("--id", ID + "x"), []),
                (("--port", str(PORT)), [PORT]), (("--port", str(near)), [PORT]), (("--port", "1"), []),
                (("--state", "established"), [PORT, PORT + 1]), (("--state", "handshake"), []),
                (("--pod", "a", "--port", str(PORT + 1)), []),
                (("--pod", "c", "--port", str(PORT + 1), "--state", "established", "--id", ID + "b", "--peer", b6),
                 [PORT + 1])):
            equal(ports(*words), expected, f"flows {' '.join(words)}")
        table = kmtls(bed, 1, "flows", "--port", str(PORT)).stdout.splitlines()
        equal((len(table), table[0].split()[:5]), (2, ["ID", "STATE", "ROLE", "LOCAL", "PEER"]), "the table")
        contains(table[1], f"{b4}:{PORT}", "the row")
        with open(bed.dir + "/watched", "w+", encoding="ascii") as file:
            watch = subprocess.Popen([bed.build + "/kmtls", "--socket", f"{bed.env['state']}/n1/control.sock", "flows",
                                      "--port", str(PORT), "-w", "--interval", "1"], stdout=file)
            try:
                until(lambda: open(file.name, encoding="ascii").read().count("established") >= 2, "it is shown again")
            finally:
                watch.kill()
                watch.wait(10)
            check("\033" not in open(file.name, encoding="ascii").read(), "a file is not redrawn")
    wrong(bed, 1, (
        (("flows", "all"), 2, "flows: all: unexpected argument"),
        (("flows", "--pod", "z"), 1, "flows: pod z: is not enrolled"),
        (("flows", "--peer", "10.0.0.1/8"), 2, "flows: 10.0.0.1/8: bits are set beyond the prefix length (10.0.0.0/8?)"),
        (("flows", "--id", "a"), 2, "flows: --id a: it does not begin with spiffe://"),
        (("flows", "--port", "0"), 2, "flows: --port 0: must be a number from 1 to 65535"),
        (("flows", "--state", "open"), 1,
         "flows: flows: state: open: must be handshake, confirmed, established or closing"),
        (("flows", "--interval", "1"), 2, "flows: --interval: only with --watch"),
        (("flows", "-w", "--interval", "0"), 2, "flows: --interval 0: must be a number from 1 to 3600")))


# --- monitor -----------------------------------------------------------------------------------------


class Monitor:
    """kmtls monitor that runs; its events so far."""

    def __init__(self, bed, node, *args, plain=False):
        self.path = f"{bed.dir}/events{time.monotonic_ns()}"
        with open(self.path, "wb") as file:
            self.process = subprocess.Popen([bed.build + "/kmtls", *([] if plain else ["--json"]), "--socket",
                                             f"{bed.env['state']}/n{node}/control.sock", "monitor", *args], stdout=file)
        self.plain = plain

    def __enter__(self):
        time.sleep(1)  # until it has subscribed; nothing says so
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(10)

    def lines(self):
        with open(self.path, encoding="utf-8") as file:
            return [line for line in file.read().split("\n")[:-1]]

    def events(self, name=None):
        return [event for event in map(json.loads, self.lines()) if name in (None, event["event"])]

    def wait(self, name, **fields):
        def find():
            for event in self.events(name):
                if all(event.get(key) == value for key, value in fields.items()):
                    return event
            return None

        return until(find, f"an event '{name}' with {fields}")


@case("monitor: flows begin and end, refusals, policy, a worker that is replaced; filters; the log's level does not matter",
      mesh=True, kernel="6.12")
def monitor(bed):
    equal(bed.kmtls(1, "log", "warning")["level"], "warning", "level")
    try:
        with Monitor(bed, 1) as all_of_it, Monitor(bed, 1, "--pod", "c") as of_c, \
                Monitor(bed, 1, "--reason", "ended") as ended, Monitor(bed, 1, plain=True) as text:
            with connection(bed):
                event = all_of_it.wait("flow established", pod="a", peer=f"{bed.address('b')}:{PORT}")
                equal((event["direction"], event["peer_id"]), ("outbound", ID + "b"), "the event")
            event = all_of_it.wait("flow ended", pod="a", flow=event["flow"])
            equal((event["reason"], event["peer"]), ("ended", f"{bed.address('b')}:{PORT}"), "the event")
            equal(ended.wait("flow ended")["flow"], event["flow"], "with --reason")
            check(not [each for each in ended.events() if each.get("reason") != "ended"], "nothing else with --reason")
            equal(of_c.events(), [], "with --pod c")
            bed.kmtls(1, "peer", "add", "10.99.9.9", "--id", ID + "z")
            equal(all_of_it.wait("peer added")["prefix"], "10.99.9.9", "the event")
            bed.kmtls(1, "peer", "del", "10.99.9.9")
            before = bed.counter(1, "no-peer")
            equal(bed.agent("a").socket().connect_ex(("10.99.9.9", 80)), errno.EPERM, "strict: a stranger is refused")
            equal(bed.counter(1, "no-peer"), before + 1, "counter")
            equal(all_of_it.wait("refused by a program", reason="no-peer")["count"], "1", "refusals of the program")
            contains("\n".join(text.lines()), "flow ended", "text")
            check(re.match(r"20\S+Z debug   flow established +flow=\d+\.\d+ pod=a ", next(
                line for line in text.lines() if "flow established" in line)), f"a line: {text.lines()[0]}")
            bed.kill_worker(1)
            equal(all_of_it.wait("worker restarted")["worker"], str(bed.worker_pid(1)), "the new worker")
            of_c.wait("worker restarted")
            with connection(bed, near="c"):
                of_c.wait("flow established", pod="c")
        check("established" not in bed.log(1)[-2000:].splitlines()[-1], "the log has no debug lines")
    finally:
        bed.kmtls(1, "log", "info")
    wrong(bed, 1, (
        (("monitor", "now"), 2, "monitor: now: unexpected argument"),
        (("monitor", "--reason", "because"), 2, "monitor: --reason because: must be the name of a reason code"),
        (("monitor", "--pod"), 2, "monitor: --pod: a value is missing")))


# --- top ---------------------------------------------------------------------------------------------


@case("top: what is sent and received, per pod and peer", mesh=True, kernel="6.12")
def top(bed):
    there, back = 1 << 20, 1 << 18
    with connection(bed) as (client, server), connection(bed, near="c", port=PORT + 1):
        process = subprocess.Popen([bed.build + "/kmtls", "--json", "--socket", f"{bed.env['state']}/n1/control.sock", "top",
                                    "-n", "2", "--interval", "3"], stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        sending = client.start("sendall", b"x" * there)
        equal(len(server.recv_exactly(there)), there, "bytes there")
        client.agent.result(sending)
        sending = server.start("sendall", b"y" * back)
        equal(len(client.recv_exactly(back)), back, "bytes back")
        server.agent.result(sending)
        output, _ = process.communicate(timeout=30)
        equal(process.returncode, 0, "status of top")
        rounds = [{(row["pod"], row["peer_id"]): row for row in json.loads(line)} for line in output.splitlines()]
        equal(len(rounds), 2, "tables")
        row, idle = rounds[0][("a", ID + "b")], rounds[0][("c", ID + "b")]
        check(row["sent"] > there / 10 and 3.5 < row["sent"] / row["received"] < 4.5, f"four times as much there: {row}")
        equal((row["flows"], idle["flows"], idle["new"]), (1, 1, 0.0), "flows")
        # What was sent before the first look may be acknowledged after it.
        check(idle["sent"] * 3 <= len(TEXT) + 50, f"the idle flow: {idle}")
        equal(list(rounds[0])[0], ("a", ID + "b"), "most bytes first")
        check(rounds[1][("a", ID + "b")]["sent"] < there / 1000, f"nothing in the second table: {rounds[1]}")
        text = kmtls(bed, 1, "top", "--pod", "c", "--once", "--interval", "1").stdout.splitlines()
        equal((text[0].split(), text[1].split()[:2], len(text)),
              (["POD", "PEER-ID", "SENT/s", "RECEIVED/s", "FLOWS", "NEW/s"], ["c", ID + "b"], 2), "the table")
    wrong(bed, 1, (
        (("top", "all"), 2, "top: all: unexpected argument"),
        (("top", "--pod", "z"), 1, "top: pod z: is not enrolled"),
        (("top", "-n", "0"), 2, "top: -n 0: must be a number from 1 to 1000000"),
        (("top", "-n", "1", "--once"), 2, "top: --once: cannot be together with -n"),
        (("top", "--interval", "1h"), 2, "top: --interval 1h: must be a number from 1 to 3600")))


# --- settings ----------------------------------------------------------------------------------------


def setting(bed, node, name):
    return bed.kmtls(node, "settings", "get", name)[0]["value"]


@case("settings: what is set counts at once and for the next worker, until a restart", mesh=True, kernel="6.12")
def settings(bed):
    names = {each["name"]: each for each in bed.kmtls(1, "settings", "get")}
    equal(names["max_flows"]["changes"], "restart", "max_flows")
    equal(names["authorization_default"]["changes"], "map", "authorization_default")
    equal((names["handshake_timeout"]["value"], names["handshake_timeout"]["changes"]), ("60s", "run-time"), "handshake_timeout")
    before = names["limits.flows_per_pod"]["value"]
    equal(bed.kmtls(1, "settings", "set", "limits.flows_per_pod", "1"),
          [{"name": "limits.flows_per_pod", "value": "1", "changes": "run-time"}], "the answer")
    bed.kmtls(1, "settings", "set", "handshake_timeout", "2m")
    for killed in (False, True):
        if killed:
            bed.kill_worker(1)
        refused = bed.counter(1, "pod-limit")
        with connection(bed):
            check(bed.agent("a").socket().connect_ex((bed.address("b"), PORT)) != 0, "a second flow of the pod is refused")
        check(bed.counter(1, "pod-limit") > refused, "and counted")
        equal((setting(bed, 1, "limits.flows_per_pod"), setting(bed, 1, "handshake_timeout")), ("1", "120s"), "values")
    bed.kmtls(1, "settings", "set", "limits.flows_per_pod", before)
    with connection(bed), connection(bed, port=PORT + 1):
        pass
    equal(bed.kmtls(1, "settings", "set", "log_level", "debug")[0]["value"], "debug", "log_level")
    equal(bed.kmtls(1, "log", "info")["before"], "debug", "the level that was set")
    bed.kmtls(1, "settings", "set", "authorization_default", "deny")
    try:
        equal(bed.kmtls(1, "authz", "default"), {"default": "deny"}, "the default that was set")
    finally:
        bed.kmtls(1, "settings", "set", "authorization_default", "allow")
    table = kmtls(bed, 1, "settings", "get").stdout.splitlines()
    equal(len(table), len(names) + 1, "lines of the table")
    bed.testbed("restart", "1")
    equal((setting(bed, 1, "handshake_timeout"), setting(bed, 1, "limits.flows_per_pod")), ("60s", before), "after a restart")
    wrong(bed, 1, (
        (("settings",), 2, "settings: an action is missing: get, set"),
        (("settings", "get", "a", "b"), 2, "settings get: b: unexpected argument"),
        (("settings", "get", "colour"), 1,
         "settings get: colour: there is no such setting, `kmtls settings get` lists them"),
        (("settings", "get", "mode"), 1, "settings get: mode: is policy, not a setting: kmtls policy"),
        (("settings", "set", "log_level"), 2, "settings set: VALUE: is missing"),
        (("settings", "set", "log_level", "loud"), 1,
         "settings set: log_level: loud: must be error, warning, info or debug"),
        (("settings", "set", "authorization_default", "dry-run"), 1,
         "settings set: authorization_default: dry-run: must be allow or deny"),
        (("settings", "set", "limits.handshakes", "1048577"), 1,
         "settings set: limits.handshakes: 1048577: must be a number from 0 to 1048576"),
        (("settings", "set", "limits.memory_percent", "5s"), 1,
         "settings set: limits.memory_percent: 5s: must be a number from 0 to 100"),
        (("settings", "set", "handshake_timeout", "6m"), 1,
         "settings set: handshake_timeout: 6m: must be between 1s and 5m"),
        (("settings", "set", "max_flows", "100"), 1,
         "settings set: max_flows: needs a restart: change it in the configuration file"),
        (("settings", "set", "colour", "red"), 1,
         "settings set: colour: there is no such setting, `kmtls settings get` lists them")))


# --- dump --------------------------------------------------------------------------------------------

FILES = {"README.txt", "version.json", "check.json", "status.json", "pods.json", "peers.json", "authorizations.json",
         "default.json", "flows.json", "udp.json", "settings.json", "identity.json", "modes.json", "metrics.txt", "log.txt"}


def bundle(path):
    """The files of a bundle, as bytes."""
    with tarfile.open(path, "r:gz") as archive:
        return {os.path.basename(item.name): archive.extractfile(item).read() for item in archive if item.isfile()}


def secrets(path):
    """What of the root's file nobody else may see: its private key's lines, and its bytes."""
    with open(path, "rb") as file:
        text = file.read()
    found = re.search(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\n(.*?)-----END", text, re.DOTALL)
    check(found, f"{path} has a private key")
    der = base64.b64decode(found.group(1))
    return found.group(1).split() + [der[at:at + 16] for at in range(0, len(der) - 16, 8)]


@case("dump: everything that other verbs show, and no key", mesh=True, kernel="6.12")
def dump(bed):
    path, root = bed.dir + "/dump.tar.gz", f"{bed.env['state']}/root.pem"
    with connection(bed):
        equal(kmtls(bed, 1, "dump", path).stdout, path + "\n", "what dump prints")
        files = bundle(path)
    equal(set(files), FILES, "files")
    equal(os.stat(path).st_mode & 0o777, 0o600, "mode of the bundle")
    parsed = {name: json.loads(text) for name, text in files.items() if name.endswith(".json")}
    equal([name for name, value in parsed.items() if "error" in value], [], "files that are errors")
    check(any(flow["peer"]["port"] == PORT for flow in parsed["flows.json"]), "the flow is in it")
    equal({pod["name"] for pod in parsed["pods.json"]}, {"a", "c"}, "pods")
    check(any(mode["scope"] == 1 for mode in parsed["modes.json"]), "the mesh's mode is in it")
    contains(files["metrics.txt"].decode(), "\nkmtls_", "what Prometheus would be told")
    files["archive"] = open(path, "rb").read()
    for part in [b"PRIVATE KEY", b"BEGIN CERTIFICATE", *secrets(root)]:
        equal([name for name, text in files.items() if part in text], [], f"files with {part[:40]!r}")
    os.unlink(path)
    done = kmtls(bed, 9, "dump", path)  # a socket where nobody is
    equal(done.returncode, 0, "dump without a daemon")
    contains(bundle(path)["status.json"].decode(), "No such file or directory", "the error in the place of the status")
    contains(bundle(path)["metrics.txt"].decode(), "# error: ", "that of the metrics")
    wrong(bed, 1, ((("dump", path), 1, f"dump: {path}: File exists"),
                   (("dump", "/nowhere/dump.tar.gz"), 1, "dump: /nowhere/dump.tar.gz: No such file or directory"),
                   (("dump", "a", "b"), 2, "dump: b: unexpected argument")))
    equal([name for name in os.listdir("/tmp") if name.startswith("kmtls.")], [], "what is left in /tmp")


# --- completion --------------------------------------------------------------------------------------


def completed(bed, *words):
    """What bash offers for the last word."""
    script = ('. "$0/completions/kmtls.bash"; PATH=$1:$PATH; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _kmtls; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "-c", script, ROOT, bed.build, "kmtls", *words], capture_output=True, text=True,
                          timeout=30, check=False,
                          env={**os.environ, "KMTLS_SOCKET": f"{bed.env['state']}/n1/control.sock"})
    equal(done.stderr, "", "errors of bash")
    return done.stdout.split()


@case("completion: verbs, actions, options, names of pods and settings", mesh=True, kernel="6.12")
def completion(bed):
    helped = kmtls(bed, 1, "--help").stdout
    equal(sorted(word for word in completed(bed, "") if not word.startswith("-")),
          sorted(set(re.findall(r"^  kmtls (\S+)", helped, re.MULTILINE))), "verbs are those of --help")
    for words, expected in (
            (("ch",), ["check"]), (("settings", ""), ["get", "set", "--help"]), (("flows", "--st"), ["--state"]),
            (("flows", "--pod", ""), ["a", "c"]), (("flows", "--state", "e"), ["established"]),
            (("top", "--o"), ["--once"]), (("monitor", "--r"), ["--reason"]), (("monitor", "--reason", "end"), ["ended"]),
            (("settings", "set", "limits.h"), ["limits.handshakes", "limits.handshakes_per_source"]),
            (("settings", "set", "log_level", "limits"), []), (("check", "--b"), ["--bpf-dir"]),
            (("pod", "del", "a"), ["a"])):
        equal(completed(bed, *words), expected, f"completion of {' '.join(words)}")
    for verb in ("flows", "top", "monitor", "check", "settings get", "settings set", "dump", "identity renew", "identity ca"):
        usage = kmtls(bed, 1, *verb.split(), "--help").stdout
        offered = completed(bed, *verb.split(), "-")
        for option in re.findall(r"-[-a-z]+", usage.splitlines()[0]):
            check(option in offered, f"completion of {verb} has {option}: {offered}")
