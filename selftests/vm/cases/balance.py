# SPDX-License-Identifier: Apache-2.0
"""What flows cost the daemon while they idle, and that nothing of them remains."""
import time

from lib import balance
from lib.bed import MARKER
from lib.tap import case, check, equal
from lib.traffic import Traffic

from .policy import connect_and_talk

BYTES_PER_FLOW = 256
# What handshakes leave in malloc's caches, once for each thread that had some: of no weight with --long.
ONCE = 1 << 20
ROUTES = (("a", "b", 4), ("a", "b", 6))


def pss(bed):
    return [balance.memory(bed, node) for node in (1, 2)]


def exercise(bed):
    """What handshakes leave behind in a worker's heap is there before anything is measured."""
    with Traffic(bed, ROUTES, 50, 0) as traffic:
        traffic.stop_whole()


@case("a thousand idle connections cost the daemon 256 bytes each at most, survive an upgrade, and leave nothing",
      mesh=True, timeout=1500, kernel="6.12")
def idle(bed):
    count = 20000 if bed.scale > 1 else 1000
    exercise(bed)
    held, before = balance.take(bed), pss(bed)
    grown = []
    with Traffic(bed, ROUTES, count // 2, 0, connect_seconds=count * 0.06 + 60) as traffic:
        for node in (1, 2):
            equal(bed.flow_totals(node)["established"], count, f"flows on node {node}")
        time.sleep(4)  # the heap of the handshakes is given back when a second has passed without any
        for node, (now, then) in enumerate(zip(pss(bed), before), 1):
            whole, table = ((now[part] - then[part]) / count for part in (0, 1))
            grown.append(f"node {node}: {whole:.0f} bytes each, {table:.0f} of them the flow table's; "
                         f"{then[0] // 1024} to {now[0] // 1024} KiB, of which maps {now[1] // 1024}, PSS with libraries "
                         f"{then[2] // 1024} to {now[2] // 1024}")
            check(now[0] - then[0] <= BYTES_PER_FLOW * count + ONCE, grown[-1])
        for node in (1, 2):
            bed.testbed("upgrade", str(node))
            bed.wait_worker(node)
            equal(bed.flow_totals(node)["established"], count, f"flows on node {node} after an upgrade")
        said = traffic.stop_whole(120 + count * 0.02)
    balance.settle(bed, held, 30)
    return "; ".join([said, *grown])


@case("short connections leave nothing: descriptors, slots, pipes and map elements are those of before", mesh=True,
      timeout=6000, kernel="6.12")
def short(bed):
    bed.serve("b", "c", "d")
    connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), 5690, MARKER.encode())
    held = balance.take(bed)
    rounds = 5000 if bed.scale > 1 else 10
    result = bed.load("a", "storm", "-t", 20, "-r", rounds, bed.at("b", 5001), bed.at("b", 5002, 6), bed.at("d", 5003),
                      bed.at("c", 5001), timeout=5900)
    equal(result["ok"], 20 * rounds, "connects")
    balance.settle(bed, held)
    return f"{result['ok']} in {result['seconds']} s"
