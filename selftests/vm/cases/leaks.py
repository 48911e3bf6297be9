# SPDX-License-Identifier: Apache-2.0
"""After all the load the daemons hold what they held at the start."""
import os

from lib.tap import Failure, case, check, until

PIPES_KEPT = 64  # by each worker: pipes.h


@case("descriptors, pipes and flow slots are those of the start", mesh=True)
def descriptors(bed):
    bed.agent("a")  # agents stay; no connection of theirs does
    bed.close_sockets()

    def settled():
        for node in (1, 2):
            (fds, flows), (fds_before, flows_before) = (bed.descriptors(node), bed.flow_totals(node)), bed.baseline[node]
            pipes = fds.pop("pipe")
            fds["all"] -= pipes
            expected = {"all": fds_before["all"] - fds_before["pipe"], "socket": fds_before["socket"]}
            if (fds, flows) != (expected, flows_before):
                raise Failure(f"node {node}: {fds} {flows}, at the start {expected} {flows_before}")
            # Workers keep some empty pipes for the next flow: so many and no more.
            if pipes > PIPES_KEPT * 2 * os.cpu_count():
                raise Failure(f"node {node} has {pipes} ends of pipes open")
            if bed.flows(node):
                raise Failure(f"node {node} lists flows: {bed.flows(node)[:2]}")
        return True

    check(bed.baseline, "the case setup.warm_up has not measured the start")
    until(settled, "both daemons are back to the start", 15)
    return f"{bed.baseline[1][0]} and {bed.baseline[2][0]}"


@case("counters add up: what was established has ended", mesh=True)
def counters(bed):
    ends = ("ended", "local-reset", "peer-reset", "truncated", "bad-record", "unexpected-record", "peer-alert",
            "relay-failed", "accel-cut", "stopped", "pod-deleted", "linger-timeout", "peer-timeout", "unauthorized", "forbidden",
            "peer-expired", "peer-revoked")
    said = []
    for node in (1, 2):
        counts = bed.counters(node)
        total = sum(counts.get(name, 0) for name in ends)
        begun = counts.get("established", 0) + counts.get("plaintext", 0)
        check(begun == total, f"node {node}: {begun} established, {total} ended: {counts}")
        for name in ("bad-record", "unexpected-record", "relay-failed", "ktls-failed", "storage-failed", "table-full"):
            check(not counts.get(name, 0), f"node {node}: {name} is {counts.get(name)}")
        said.append(str(total))
    return f"flows on the nodes: {', '.join(said)}"
