# SPDX-License-Identifier: Apache-2.0
"""Handshakes with symmetric cryptography only (resumption_symmetric): when, what is on the wire, what becomes of
them where they are not possible, and that flows set up by them outlive the daemon."""
import contextlib
import subprocess
import time

from lib import balance
from lib.bed import MARKER
from lib.tap import case, check, equal, until
from lib.traffic import Killer, Traffic

from .authz import ByBpftool, clean, denied, ids
from .crash import RATE, ROUTES
from .policy import connect_and_talk
from . import resumption
from .resumption import PORT, TEXT, connects, counts

NAME = "resumption_symmetric"
BOUNDS = resumption.other_client, resumption.other_server, resumption.policy, resumption.other_svid, resumption.switched_off
SLOW_BOUNDS = resumption.bundle, resumption.expired, resumption.secret_rotated  # with --long


@contextlib.contextmanager
def switched_on(bed, *nodes):
    """Everything that was remembered before is forgotten, too."""
    for node in (1, 2):
        bed.kmtls(node, "settings", "set", NAME, "true" if node in nodes else "false")
    try:
        yield
    finally:
        for node in (1, 2):
            bed.kmtls(node, "settings", "set", NAME, "false")


def symmetric(bed, what, **where):
    connects(bed, True, what, counter="resumed-symmetric", **where)


@case("the second handshake of a pair is symmetric, within the bounds of resumption", mesh=True, timeout=600, kernel="6.12")
def bounds(bed):
    connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), PORT, TEXT)
    connects(bed, False, "not switched on", counter="resumed-symmetric")
    with switched_on(bed, 1, 2):
        for bound in BOUNDS + (SLOW_BOUNDS if bed.scale > 1 else ()):
            bound(bed, counter="resumed-symmetric")
        for node in (1, 2):
            refused = bed.counters(node).get("symmetric-refused", 0)
            check(refused, f"node {node} has refused none that did not hold any more")
    connects(bed, False, "switched off again")


@case("one daemon has symmetric handshakes, the other has not: connections are resumed with (EC)DHE", mesh=True, kernel="6.12")
def one_of_two(bed):
    for node, far in ((1, 2), (2, 1)):
        with switched_on(bed, node):
            connects(bed, False, f"switched on at node {node}")
            for what in ("offered by one", "not offered again"):
                connects(bed, True, what)
                connects(bed, False, what, counter="resumed-symmetric")
            before = bed.counters(far).get("symmetric-refused", 0)
            connects(bed, True, "and again")
            equal(bed.counters(far).get("symmetric-refused", 0), before, "counted where it is off")


@case("the same of a pod that is enrolled with --connect at-once: what it has sent is not lost", mesh=True, kernel="6.12")
def at_once(bed):
    arguments = ("c", "--netns", "/run/netns/kt-c", "--cgroup", bed.env["cgroup"] + "/c", "--id", bed.env["c_id"])
    bed.kmtls(1, "pod", "del", "c")
    bed.kmtls(1, "pod", "add", *arguments, "--connect", "at-once")
    try:
        with switched_on(bed, 1):
            for version in (4, 6):
                connects(bed, False, f"IPv{version}", near="c", version=version)
                before = bed.counters(1)
                connects(bed, True, f"IPv{version}, dialled anew", near="c", version=version)
                after = bed.counters(1)
                equal([after[name] - before.get(name, 0) for name in ("symmetric-refused", "retried")], [1, 1],
                      "refused, and dialled anew")
        with switched_on(bed, 1, 2):
            connects(bed, False, "both", near="c")
            symmetric(bed, "both, again", near="c")
    finally:
        bed.kmtls(1, "pod", "del", "c")
        bed.kmtls(1, "pod", "add", *arguments)


@case("a rule that forbids a peer is obeyed though its handshake is symmetric", mesh=True, kernel="6.12")
def forbidden(bed):
    with clean(bed), switched_on(bed, 1, 2):
        connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), PORT, TEXT)
        symmetric(bed, "allowed")
        before = counts(bed, "resumed-symmetric")
        ByBpftool(bed).add("deny", *ids(bed))  # the generation of the policy stays
        denied(bed, 4, PORT + 1)
        after = counts(bed, "resumed-symmetric")
        equal([after[node][1] - before[node][1] for node in (1, 2)], [1, 1], "symmetric handshakes, by node")
        equal([after[node][0] - before[node][0] for node in (1, 2)], [0, 0], "flows established, by node")


def fields(file, port, *names):
    """tshark's fields of all packets with a handshake in the clear, of one port."""
    argv = ["tshark", "-r", file, "-d", f"tcp.port=={port},tls", "-Y", "tls.handshake", "-T", "fields", "-E", "separator=;"]
    for name in names:
        argv += ["-e", name]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=True)
    return [line.split(";") for line in done.stdout.splitlines()]


@case("on the wire: psk_ke is the only mode offered, no key share, no certificate, nothing in the clear", mesh=True, timeout=200)
def wire(bed):
    file = bed.dir + "/symmetric.pcap"
    with switched_on(bed, 1, 2):
        for version in (4, 6):
            connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b", version), PORT, TEXT)
            listener = bed.listen_on_wire("n1", "pod-a", file)
            symmetric(bed, f"IPv{version}", version=version)
            bed.stop_listening(listener)
            seen = fields(file, PORT, "tls.handshake.type", "tls.extension.psk_ke_mode", "tls.handshake.extension.type",
                          "tls.handshake.ciphersuite", "tls.handshake.session_id_length")
            hellos = {tuple(row) for row in seen}
            equal(hellos, {("1", "0", "43,16,45,41", "0x1301", "0"), ("2", "", "43,41", "0x1301", "0")},
                  f"IPv{version}: handshakes in the clear")
            found = bed.wirecheck(file, [MARKER])
            equal(found["found"][MARKER], 0, "the text in the clear")


@case("flows of symmetric handshakes outlive their workers, killed and upgraded: not a byte is wrong", mesh=True, timeout=900)
def survive(bed):
    with switched_on(bed, 1, 2):
        for near, far in ("ab", "ba"):
            connect_and_talk(bed.agent(near), bed.agent(far), bed.address(far), PORT, TEXT)
            symmetric(bed, "before", near=near, far=far)
        before, counted = balance.take(bed), counts(bed, "resumed-symmetric")
        patience = 300 if bed.scale > 1 else 100
        with Traffic(bed, ROUTES, 4, RATE, patience=patience) as traffic:
            with Killer(bed, count=20, seed=int(time.time())) as killer:
                killed = killer.wait(100)
            for node in (1, 2):
                bed.wait_worker(node)
                bed.testbed("upgrade", str(node))
            said = traffic.stop_whole(patience + 50)
        after = counts(bed, "resumed-symmetric")
        check(after[1][1] > counted[1][1] + 4, "no symmetric handshakes")
        balance.settle(bed, before)
        until(lambda: bed.kmtls(1, "status"), "node 1 answers")
    return f"{said}; killed {killed}; {after[1][1] - counted[1][1]} symmetric handshakes on node 1"
