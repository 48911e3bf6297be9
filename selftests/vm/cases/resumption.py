# SPDX-License-Identifier: Apache-2.0
"""Handshakes that stand on an earlier one: when, and when not any more."""
import time

from lib.bed import MARKER
from lib.tap import case, equal

from .authz import ByBpftool, clean, denied, ids
from .policy import connect_and_talk

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


def check_bounds(bed, counter):
    """A handshake is resumed, as counter counts it, where it may be and nowhere else."""
    for node in (1, 2):
        setting(bed, node, "0")  # others may have connected before
        setting(bed, node, "1h")
    for version in (4, 6):
        both(bed, f"IPv{version}", version=version, counter=counter)
    both(bed, "another client", near="c", counter=counter)
    both(bed, "another server", far="d", counter=counter)
    both(bed, "on one node", far="c", counter=counter)
    connects(bed, True, "the first pair still", counter=counter)
    for node, pod in ((1, "a"), (2, "b")):
        bed.kmtls(node, "peer", "add", UNRELATED, "--id", "spiffe://example.org/ns/default/sa/nobody")
        both(bed, f"policy of node {node} changed", counter=counter)
        bed.kmtls(node, "peer", "del", UNRELATED)
        connects(bed, False, f"and changed back on node {node}")
        bed.kmtls(node, "identity", "renew", pod)
        both(bed, f"another SVID on node {node}", counter=counter)
        setting(bed, node, "0")
        connects(bed, False, f"switched off on node {node}")
        connects(bed, False, f"switched off on node {node}, again")
        setting(bed, node, "1h")
        both(bed, f"switched on again on node {node}", counter=counter)
        bed.kill_worker(node)
        bed.wait_worker(node)
        both(bed, f"another worker on node {node}", counter=counter)
        setting(bed, node, "1s")
        connects(bed, False, f"a second on node {node}")
        time.sleep(1.1)
        connects(bed, False, f"after a second on node {node}")
        setting(bed, node, "1h")


@case("the second handshake of a pair is resumed, and nothing but the policy of now decides about it", mesh=True, kernel="6.12")
def bounds(bed):
    check_bounds(bed, "resumed")


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
