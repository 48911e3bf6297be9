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


def counts(bed):
    return {node: (bed.counters(node).get("established", 0), bed.counters(node).get("resumed", 0)) for node in (1, 2)}


def connects(bed, resumed, what, near="a", far="b", version=4):
    """One connection; was its handshake resumed, at either end?"""
    before = counts(bed)
    connect_and_talk(bed.agent(near), bed.agent(far), bed.address(far, version), PORT, TEXT)
    after = counts(bed)
    ends = [1 if place in "ac" else 2 for place in (near, far)]
    wanted = {node: ends.count(node) for node in (1, 2)}
    equal({node: after[node][0] - before[node][0] for node in after}, wanted, f"{what}: flows established, by node")
    equal({node: after[node][1] - before[node][1] for node in after},
          {node: count if resumed else 0 for node, count in wanted.items()}, f"{what}: handshakes resumed, by node")


def both(bed, what, **where):
    """The next handshake is a full one, and the one after it stands on it."""
    connects(bed, False, what, **where)
    connects(bed, True, what + ", again", **where)


def setting(bed, node, value):
    bed.kmtls(node, "settings", "set", "resumption", value)


@case("the second handshake of a pair is resumed, and nothing but the policy of now decides about it", mesh=True, kernel="6.12")
def bounds(bed):
    for node in (1, 2):
        setting(bed, node, "0")  # others may have connected before
        setting(bed, node, "1h")
    for version in (4, 6):
        both(bed, f"IPv{version}", version=version)
    both(bed, "another client", near="c")
    both(bed, "another server", far="d")
    both(bed, "on one node", far="c")
    connects(bed, True, "the first pair still")
    for node, pod in ((1, "a"), (2, "b")):
        bed.kmtls(node, "peer", "add", UNRELATED, "--id", "spiffe://example.org/ns/default/sa/nobody")
        both(bed, f"policy of node {node} changed")
        bed.kmtls(node, "peer", "del", UNRELATED)
        connects(bed, False, f"and changed back on node {node}")
        bed.kmtls(node, "identity", "renew", pod)
        both(bed, f"another SVID on node {node}")
        setting(bed, node, "0")
        connects(bed, False, f"switched off on node {node}")
        connects(bed, False, f"switched off on node {node}, again")
        setting(bed, node, "1h")
        both(bed, f"switched on again on node {node}")
        bed.kill_worker(node)
        bed.wait_worker(node)
        both(bed, f"another worker on node {node}")
        setting(bed, node, "1s")
        connects(bed, False, f"a second on node {node}")
        time.sleep(1.1)
        connects(bed, False, f"after a second on node {node}")
        setting(bed, node, "1h")


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
