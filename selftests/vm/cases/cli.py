# SPDX-License-Identifier: Apache-2.0
"""The command line that looks and watches: check, flows with filters, monitor, top, settings, dump."""
import contextlib
import errno
import json
import os
import re
import subprocess
import time

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


@case("check: a node that works has no error; marks as the locale can show them", mesh=True)
def check_fine(bed):
    result = report(bed)
    check(result["result"] in ("ok", "warning"), f"result {result['result']}")
    equal([each for each in result["checks"] if each["level"] == "failed"], [], "what failed")
    equal(findings(result, "kernel", "ok")[0][:7], "kernel ", "the release")
    for pod in "ac":
        equal([text for text in findings(result, "programs", "ok") if text.startswith(f"pod {pod}: all ")],
              [f"pod {pod}: all 14 are attached"], f"programs of pod {pod}")
        check(any(text.startswith(f"pod {pod}: SVID valid until 20") for text in findings(result, "identity", "ok")),
              f"SVID of {pod}: {findings(result, 'identity')}")
    rekey = bed.kmtls(1, "status")["rekey"]
    equal(any("keys of flows are replaced" in text for text in findings(result, "daemon", "ok")), rekey, "rekey is fine")
    equal(any("cannot replace keys" in text for text in findings(result, "daemon", "warning")), not rekey, "rekey warns")
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
      mesh=True)
def check_broken(bed):
    links = pins(bed) + "/links"
    name = next(name for name in os.listdir(links) if re.fullmatch("[0-9a-f]{16}", name))
    program = f"{links}/{name}/connect6"
    os.rename(program, program + "x")
    try:
        result = report(bed, status=1)
        equal(findings(result, "programs", "failed")[0][7:], f": {program}: No such file or directory", "what failed")
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
        equal(findings(result, "programs", "failed")[0][7:], f": {program}: is attached to nothing", "what failed")
        check(any(text.startswith("10 maps at ") for text in findings(result, "maps", "ok")), "maps are looked at")
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
        "udp_ledger": ("lru_hash", 32, 48, 5), "udp_totals": ("hash", 8, 48, 5)}


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


@case("check: maps of another version or size; 80 % full is a warning, full an error", mesh=True)
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


@case("flows: filters by pod, peer, identity, port and state; --watch", mesh=True)
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
      mesh=True)
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
            check(re.match(r"20\S+Z debug   flow established          flow=\d+\.\d+ pod=a ", next(
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
