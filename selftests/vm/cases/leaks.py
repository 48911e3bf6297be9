# SPDX-License-Identifier: Apache-2.0
"""After all the load the daemons hold what they held at the start."""
from lib.tap import Failure, case, check, until


@case("descriptors, pipes and flow slots are those of the start", mesh=True)
def descriptors(bed):
    bed.agent("a")  # agents stay; no connection of theirs does
    bed.close_sockets()

    def settled():
        for node in (1, 2):
            fds, flows = bed.descriptors(node), bed.kmtls(node, "status")["flows"]
            if (fds, flows) != bed.baseline[node]:
                raise Failure(f"node {node}: {fds} {flows}, at the start {bed.baseline[node][0]} {bed.baseline[node][1]}")
            if bed.flows(node):
                raise Failure(f"node {node} lists flows: {bed.flows(node)[:2]}")
        return True

    check(bed.baseline, "the case setup.warm_up has not measured the start")
    until(settled, "both daemons are back to the start", 15)
    return f"{bed.baseline[1][0]} and {bed.baseline[2][0]}"


@case("counters add up: what was established has ended", mesh=True)
def counters(bed):
    ends = ("ended", "local-reset", "peer-reset", "truncated", "bad-record", "unexpected-record", "peer-alert",
            "relay-failed", "stopped", "pod-deleted", "linger-timeout")
    said = []
    for node in (1, 2):
        counts = bed.counters(node)
        total = sum(counts.get(name, 0) for name in ends)
        check(counts.get("established", 0) == total,
              f"node {node}: {counts.get('established', 0)} established, {total} ended: {counts}")
        for name in ("bad-record", "unexpected-record", "relay-failed", "ktls-failed", "storage-failed", "table-full"):
            check(not counts.get(name, 0), f"node {node}: {name} is {counts.get(name)}")
        said.append(str(total))
    return f"flows on the nodes: {', '.join(said)}"
