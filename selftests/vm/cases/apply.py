# SPDX-License-Identifier: Apache-2.0
"""kmtls apply: a declared policy becomes what the maps hold, all of it or nothing."""
import errno
import json
import re
import subprocess

from lib.tap import case, check, equal

from .peers import bpftool, contents, full_writes, own_maps
from .policy import connect_and_talk

MAPS = ("modes", "peers", "authorizations", "names")

FIRST = """\
modes:
  mesh: {inbound: permissive, outbound: strict}
  ports: {9090: off}
  pods:
    shop/web: {mode: permissive, ports: {80: strict}}
peers:
  - {prefix: 10.0.0.2, id: spiffe://td/ns/shop/sa/db}
  - {prefix: 10.96.0.0/16, trust_domain: td, namespace: shop}
  - {prefix: 10.0.0.53, bypass: [53, 9153]}
authorizations:
  - {allow: 'namespace:td/shop', to: spiffe://td/ns/shop/sa/db, port: 5432}
  - {deny: any, to: 'trust-domain:td'}
authorization_default: allow
"""

SECOND = """\
modes:
  mesh: strict
  namespaces: {shop: strict}
  pods:
    shop/web: {mode: off}
peers:
  - {prefix: 10.0.0.2, id: spiffe://td/ns/shop/sa/other}
  - {prefix: 10.0.0.53, bypass: all}
  - {prefix: 'fd00::/64', trust_domain: td}
authorizations:
  - {deny: 'namespace:td/shop', to: spiffe://td/ns/shop/sa/db, port: 5432}
  - {dry-run: spiffe://td/x, to: any}
authorization_default: deny
"""

# In no order: what must be in the difference between the two, each line once.
DIFFERENCE = {
    "~ mode mesh inbound: permissive -> strict",
    "- mode every pod port 9090 inbound: off",
    "- mode every pod port 9090 outbound: off",
    "~ mode pod shop/web inbound: permissive -> off",
    "~ mode pod shop/web outbound: permissive -> off",
    "- mode pod shop/web port 80 inbound: strict",
    "- mode pod shop/web port 80 outbound: strict",
    "+ mode namespace shop inbound: strict",
    "+ mode namespace shop outbound: strict",
    "~ peer 10.0.0.2/32: exact spiffe://td/ns/shop/sa/db -> exact spiffe://td/ns/shop/sa/other",
    "~ peer 10.0.0.53/32: bypass 53 9153 -> bypass all",
    "+ peer fd00::/64: trust-domain spiffe://td",
    "- peer 10.96.0.0/16: namespace spiffe://td/ns/shop",
    "~ authorization namespace:td/shop to spiffe://td/ns/shop/sa/db port 5432: allow -> deny",
    "- authorization any to trust-domain:td port any: deny",
    "+ authorization spiffe://td/x to any port any: dry-run",
    "~ authorization_default: allow -> deny",
}


def apply(bed, text, *options, directory, prefix=()):
    return subprocess.run([*prefix, bed.build + "/kmtls", "apply", "-f", "-", *(["--bpf-dir", directory] if directory else []),
                           *options], input=text, capture_output=True, text=True, timeout=60, check=False)


def applied(done):
    equal((done.returncode, done.stderr), (0, ""), "status and errors of apply")
    return done.stdout.splitlines()


def settings(directory):
    """The default of authorization, and the generation."""
    raw = bytes(int(byte, 16) for byte in bpftool("map", "lookup", "pinned", directory + "/settings", "key", *"0000")["value"])
    return int.from_bytes(raw[4:8], "little"), int.from_bytes(raw[8:], "little")


def state(directory, names=True):
    return {name: contents(directory, name) for name in MAPS if names or name != "names"}, settings(directory)[0]


@case("apply shows the exact difference, makes it so, and then there is none", mesh=True, kernel="6.12")
def difference(bed):
    with own_maps(bed, 100, 100) as directory:
        equal(applied(apply(bed, FIRST, "--dry-run", directory=directory)), ["13 added, 1 changed, 0 deleted (nothing was written)"],
              "the numbers of the first")
        lines = applied(apply(bed, FIRST, directory=directory))
        equal(lines[-1], "13 added, 1 changed, 0 deleted", "the first")
        check("~ authorization_default: unset (allow) -> allow" in lines, "the default is set")
        equal(settings(directory), (1, 1), "default and generation")
        equal(applied(apply(bed, FIRST, directory=directory)), ["no changes"], "the same again")
        equal(settings(directory), (1, 1), "nothing was written")
        before = state(directory)
        lines = applied(apply(bed, SECOND, "--diff", directory=directory))
        equal((set(lines[:-1]), len(lines)), (DIFFERENCE, len(DIFFERENCE) + 1), "the difference")
        equal(lines[-1], "4 added, 7 changed, 6 deleted (nothing was written)", "the numbers")
        equal(state(directory), before, "the maps after --diff")
        equal(applied(apply(bed, SECOND, directory=directory)), lines[:-1] + ["4 added, 7 changed, 6 deleted"], "doing it")
        equal(settings(directory), (2, 2), "default and generation: one bump")
        equal(applied(apply(bed, SECOND, "--diff", directory=directory)), ["no changes"], "and again")
        result = json.loads(apply(bed, FIRST, "--diff", "--json", directory=directory).stdout)
        equal([result[name] for name in ("added", "changed", "deleted", "written")], [6, 7, 4, False], "as JSON")
        check({"action": "deleted", "what": "peer fd00::/64", "before": "trust-domain spiffe://td", "after": None}
              in result["changes"], "a change as JSON")
        applied(subprocess.run([bed.build + "/kmtls", "apply", "-f", "examples/mesh.yaml", "--diff", "--bpf-dir", directory],
                               capture_output=True, text=True, timeout=60, check=False))
        applied(apply(bed, FIRST, directory=directory))
        equal(state(directory, names=False), ({name: before[0][name] for name in MAPS[:3]}, 1), "back to the first")


@case("apply leaves sections alone that the file does not have, unless it prunes", mesh=True, kernel="6.12")
def sections(bed):
    with own_maps(bed, 100, 100) as directory:
        applied(apply(bed, FIRST, directory=directory))
        first = state(directory)
        equal(applied(apply(bed, "authorization_default: deny\n", directory=directory))[-1], "0 added, 1 changed, 0 deleted",
              "the default alone")
        equal(state(directory), (first[0], 2), "the maps")
        equal(applied(apply(bed, "peers:\n", directory=directory))[-1], "0 added, 0 changed, 3 deleted", "no peers")
        now = state(directory)
        equal((now[0]["modes"], now[0]["authorizations"], now[0]["peers"]), (first[0]["modes"], first[0]["authorizations"], []),
              "the sections")
        equal(applied(apply(bed, "peers:\n", "--prune", directory=directory))[-1], "0 added, 0 changed, 10 deleted", "pruned")
        equal(state(directory, names=False), ({"modes": [], "peers": [], "authorizations": []}, 2), "the default stays")


def traced(bed, text, directory, inject=None):
    command = ["strace", "-f", "-o", bed.dir + "/trace", "-e", "trace=bpf"]
    if inject:
        command += ["-e", "inject=bpf:" + inject]
    return apply(bed, text, directory=directory, prefix=[*command, "--seccomp-bpf"])


def writing_calls(bed):
    with open(bed.dir + "/trace", encoding="ascii") as file:
        calls = [re.search(r"bpf\(BPF_MAP_(\w+)", line) for line in file if "bpf(" in line]
    return [number + 1 for number, call in enumerate(calls)
            if call and call.group(1) in ("UPDATE_BATCH", "DELETE_BATCH", "DELETE_ELEM")]


@case("apply: whichever write fails, all is as it was before", mesh=True, timeout=200, kernel="6.12")
def rollback(bed):
    with own_maps(bed, 100, 100) as directory:
        applied(apply(bed, FIRST, directory=directory))
        applied(apply(bed, SECOND, directory=directory))
        lines = applied(traced(bed, FIRST, directory))
        equal(lines[-1], "6 added, 7 changed, 4 deleted", "the change")
        writes = writing_calls(bed)
        check(len(writes) > 15, f"writing calls: {len(writes)}")
        applied(apply(bed, SECOND, directory=directory))
        before = state(directory)
        # The last call of the good run throws away texts: that may fail.
        for number in writes[:-2]:
            done = traced(bed, FIRST, directory, f"error=EIO:when={number}")
            if done.returncode == 0:
                continue  # taking away texts that nothing refers to any more
            equal((done.returncode, done.stderr), (1, "kmtls apply: Input/output error; all is as it was before\n"),
                  f"call {number} fails")
            equal(state(directory), before, f"the maps when call {number} failed")


@case("apply into a map that is full: nothing is written, or it is taken back", mesh=True, kernel="6.12")
def full(bed):
    rules = "authorizations:\n" + "".join(f"  - {{deny: any, to: spiffe://td/s{i}}}\n" for i in range(5))
    modes = "modes:\n  ports: {" + ", ".join(f"{i}: off" for i in range(1, 6)) + "}\n"
    with own_maps(bed, 100, 6, modes=8, authorizations=4) as directory:
        applied(apply(bed, "modes: {mesh: strict}\n", directory=directory))
        before = state(directory)
        for text, error in (
                (rules, "the authorizations map has room for 4 entries, this needs 5; nothing was written"),
                (modes.replace("modes:\n", "modes:\n  mesh: strict\n"),
                 "the modes map has room for 8 entries, this needs 12; nothing was written"),
                (rules.replace("5)", "4)").rsplit("  - ", 1)[0] + "modes: {mesh: strict, pods: {p1: off, p2: off, p3: off}}\n",
                 "a map is full; all is as it was before")):
            counted = full_writes(directory)
            done = apply(bed, text, directory=directory)
            equal((done.returncode, done.stderr), (1, f"kmtls apply: {error}\n"), "status and error")
            equal(state(directory), before, "the maps")
            check(full_writes(directory) > counted, "map-full is counted")


@case("apply refuses wrong input by file, line and key, and changes nothing", mesh=True, kernel="6.12")
def wrong(bed):
    with own_maps(bed, 100, 100) as directory:
        applied(apply(bed, FIRST, directory=directory))
        before = state(directory)
        for text, error in (
                ("", "standard input: says nothing: there is not one section"),
                ("mode: strict\n", "standard input:1: mode: unknown key"),
                (SECOND + "more: 1\n", f"standard input:{SECOND.count(chr(10)) + 1}: more: unknown key"),
                (SECOND.replace("bypass: all", "bypass: some"), "standard input:8: peers[1].bypass: must be all, or a list of ports"),
                (SECOND.replace("10.0.0.2,", "10.0.0.256,"),
                 "standard input:7: peers[0].prefix: 10.0.0.256: must be an IP address or ADDRESS/LENGTH"),
                (SECOND.replace("mesh: strict", "mesh: Strict"), "standard input:2: modes.mesh: must be off, permissive or strict"),
                (SECOND.replace("5432", "65536"), "standard input:11: authorizations[0]: must be a port, from 1 to 65535"),
                ("peers: [\n", "standard input:2: not YAML: did not find expected node content")):
            done = apply(bed, text, directory=directory)
            equal((done.returncode, done.stdout, done.stderr), (2, "", f"kmtls apply: {error}\n"), f"wrong: {text[:40]!r}")
        equal(state(directory), before, "the maps")
        tool = [bed.build + "/kmtls", "apply"]
        for words, status, error in ((["--diff"], 2, "-f FILE: is missing"), (["-f"], 2, "-f: a value is missing"),
                                     (["-f", "/nonexistent"], 2, "/nonexistent: No such file or directory"),
                                     (["-f", "/"], 2, "/: Is a directory"), (["-f", "/dev/null", "x"], 2, "x: unexpected argument"),
                                     (["-f", "/dev/null", "--pruned"], 2, "--pruned: unknown option")):
            done = subprocess.run([*tool, *words], capture_output=True, text=True, timeout=30, check=False)
            equal((done.returncode, done.stderr), (status, f"kmtls apply: {error}\n"), f"apply {words}")


@case("what apply writes holds for the next connection", mesh=True, kernel="6.12")
def effect(bed):
    directory = f"{bed.env['pins']}/n1"
    socket = ["--socket", f"{bed.env['state']}/n1/control.sock"]
    x = bed.address("x")
    text = "modes:\n  mesh: strict\n  ports: {7999: off}\npeers:\n" + "".join(
        f"  - {{prefix: {bed.address(place, version)}, id: {bed.env[place + '_id']}}}\n"
        for place in "abcd" for version in (4, 6) if bed.address(place, version))
    done = subprocess.run([bed.build + "/kmtls", *socket, "apply", "-f", "-"], input=text, capture_output=True, text=True,
                          timeout=60, check=False)
    equal((done.returncode, done.stdout, done.stderr), (0, "no changes\n", ""), "what the testbed has set up")
    equal(bed.agent("a").socket().connect_ex((x, 5880)), errno.EPERM, "before")
    applied(apply(bed, text + f"  - {{prefix: {x}, bypass: [5880]}}\n", directory=directory))
    try:
        connect_and_talk(bed.agent("a"), bed.agent("x"), x, 5880, b"TO-A-BYPASS-PEER")
    finally:
        lines = applied(apply(bed, text, directory=directory))
    equal(lines, [f"- peer {x}/32: bypass 5880", "0 added, 0 changed, 1 deleted"], "and back")
    equal(bed.agent("a").socket().connect_ex((x, 5880)), errno.EPERM, "afterwards")
