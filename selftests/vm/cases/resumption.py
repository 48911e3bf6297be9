# SPDX-License-Identifier: Apache-2.0
"""Handshakes that stand on an earlier one: when, and when not any more."""
import contextlib
import re
import time

from lib.bed import MARKER
from lib.tap import case, check, equal, until

from .authz import ByBpftool, clean, denied, ids
from .identity import pods
from .identity_files import own_again, rotated, use
from .policy import connect_and_talk
from .streams import refusal

PORT = 6060
TEXT = MARKER.encode()
UNRELATED = "203.0.113.7"


def counts(bed, counter="resumed"):
    return {node: (bed.counters(node).get("established", 0), bed.counters(node).get(counter, 0)) for node in (1, 2)}


def connects(bed, resumed, what, near="a", far="b", version=4, counter="resumed"):
    """One connection; was its handshake resumed, as counter counts it, at either end?"""
    before = counts(bed, counter)
    connect_and_talk(bed.agent(near), bed.agent(far), bed.address(far, version), PORT, TEXT)
    after = counts(bed, counter)
    ends = [1 if place in "ac" else 2 for place in (near, far)]
    wanted = {node: ends.count(node) for node in (1, 2)}
    equal({node: after[node][0] - before[node][0] for node in after}, wanted, f"{what}: flows established, by node")
    equal({node: after[node][1] - before[node][1] for node in after},
          {node: count if resumed else 0 for node, count in wanted.items()}, f"{what}: handshakes {counter}, by node")


def both(bed, what, **where):
    """The next handshake is a full one, and the one after it stands on it."""
    connects(bed, False, what, **{**where, "counter": "resumed"})
    connects(bed, True, what + ", again", **where)


def setting(bed, node, value):
    bed.kmtls(node, "settings", "set", "resumption", value)


@contextlib.contextmanager
def from_files(bed):
    """SVIDs that come from files, which its Writer can change."""
    try:
        yield use(bed)
    finally:
        own_again(bed)


def begin(bed, version=4, counter="resumed"):
    """Nothing is known of anybody; then the first pair's handshake can be resumed, whoever looks."""
    for node in (1, 2):
        setting(bed, node, "0")  # others may have connected before
        setting(bed, node, "1h")
    both(bed, f"IPv{version}", version=version, counter=counter)


@case("the second handshake of a pair is resumed; another client identity: a full one", mesh=True, kernel="6.12")
def other_client(bed, counter="resumed"):
    for version in (4, 6):
        begin(bed, version, counter)
    both(bed, "another client", near="c", counter=counter)
    connects(bed, True, "the first pair still", version=6, counter=counter)


@case("another server identity: a full handshake", mesh=True, kernel="6.12")
def other_server(bed, counter="resumed"):
    begin(bed, counter=counter)
    both(bed, "another server", far="d", counter=counter)
    both(bed, "on one node", far="c", counter=counter)
    connects(bed, True, "the first pair still", counter=counter)


@case("another trust bundle, the same SVID: a full handshake, on either side", mesh=True, timeout=200, kernel="6.12")
def bundle(bed, counter="resumed"):
    """Of one pod at a time the bundle gets one more root, and loses it again."""
    with open(f"{bed.env['state']}/root.pem", encoding="ascii") as file:
        other = re.search(r"-----BEGIN CERT.*?-----END CERT[^\n]*\n", file.read(), re.S)[0]
    with from_files(bed) as writer:
        rotated(bed, writer, 600)
        begin(bed, counter=counter)
        for node, pod in ((1, "a"), (2, "b")):
            for text in (writer.read("roots.pem") + other, writer.read("roots.pem")):
                serial, since = pods(bed)[pod]["serial"], bed.log_size(node)
                writer.replace(pod, "bundle.pem", text)
                bed.wait_log(node, since, "svid renewed", f"pod={pod} ")
                equal(pods(bed)[pod]["serial"], serial, "the SVID is the same")
                both(bed, f"another bundle on node {node}", counter=counter)


@case("another policy: a full handshake, on either side", mesh=True, kernel="6.12")
def policy(bed, counter="resumed"):
    begin(bed, counter=counter)
    for node in (1, 2):
        bed.kmtls(node, "peer", "add", UNRELATED, "--id", "spiffe://example.org/ns/default/sa/nobody")
        both(bed, f"policy of node {node} changed", counter=counter)
        bed.kmtls(node, "peer", "del", UNRELATED)
        connects(bed, False, f"and changed back on node {node}")


@case("another SVID of the same identity: a full handshake, on either side", mesh=True, kernel="6.12")
def other_svid(bed, counter="resumed"):
    begin(bed, counter=counter)
    for node, pod in ((1, "a"), (2, "b")):
        bed.kmtls(node, "identity", "renew", pod)
        both(bed, f"another SVID on node {node}", counter=counter)


@case("an SVID has expired: none is resumed; with the next one a full handshake", mesh=True, timeout=200, kernel="6.12")
def expired(bed, counter="resumed"):
    with from_files(bed) as writer:
        for pod in ("a", "b"):
            rotated(bed, writer, 600)
            rotated(bed, writer, 15, [pod])
            begin(bed, counter=counter)
            until(lambda pod=pod: pods(bed)[pod]["not_after"] < time.time(), f"the end of {pod}'s SVID", 30)
            before = counts(bed)
            check(refusal(bed.agent("a"), bed.address("b"), PORT + 2)[0], "a connection without an SVID")
            equal(counts(bed), before, "flows established, handshakes resumed")
            rotated(bed, writer, 600, [pod])
            both(bed, f"another SVID of {pod}", counter=counter)


@case("a secret is older than `resumption`, or its worker is gone: a full handshake, which makes a new one", mesh=True, kernel="6.12")
def secret_rotated(bed, counter="resumed"):
    """There are no ticket keys: what they would encrypt is kept, and each full handshake makes a secret of its own."""
    begin(bed, counter=counter)
    for node in (1, 2):
        setting(bed, node, "15s")
        both(bed, f"15 seconds on node {node}", counter=counter)
        time.sleep(15.1)
        both(bed, f"after 15 seconds on node {node}", counter=counter)
        setting(bed, node, "1h")
        bed.kill_worker(node)
        bed.wait_worker(node)
        both(bed, f"another worker on node {node}", counter=counter)


@case("switched off: full handshakes, by either side's switch", mesh=True, kernel="6.12")
def switched_off(bed, counter="resumed"):
    begin(bed, counter=counter)
    for node in (1, 2):
        setting(bed, node, "0")
        connects(bed, False, f"switched off on node {node}")
        connects(bed, False, f"switched off on node {node}, again")
        setting(bed, node, "1h")
        both(bed, f"switched on again on node {node}", counter=counter)


@case("a rule that forbids a peer is obeyed though its handshake is resumed", mesh=True, kernel="6.12")
def forbidden(bed):
    with clean(bed):
        connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), PORT, TEXT)
        connects(bed, True, "allowed")
        before = counts(bed)
        ByBpftool(bed).add("deny", *ids(bed))  # the generation of the policy stays
        denied(bed, 4, PORT + 1)
        after = counts(bed)
        equal([after[node][1] - before[node][1] for node in (1, 2)], [1, 1], "handshakes resumed, by node")
        equal([after[node][0] - before[node][0] for node in (1, 2)], [0, 0], "flows established, by node")
