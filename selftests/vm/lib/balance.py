# SPDX-License-Identifier: Apache-2.0
"""What the daemons hold, in order to compare it before and after: descriptors, slots, pipes, map
elements, memory, processor time. Keeper and worker share their descriptors, so one table is counted."""
import collections
import json
import os
import re
import subprocess
import time

from .tap import Failure, check, until

PIPES_KEPT = 64  # by each loop: pipes.h
# Those that must not grow; verdicts and names of turned connects stay on purpose (docs/connect.md).
MAPS = ("dials", "callers", "listeners", "own_addresses")


def elements(bed, node, name):
    """How many elements of a map of the node have a value other than 0; listeners that have gone have 0."""
    done = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", f"{bed.env['pins']}/n{node}/internal/{name}"],
                          capture_output=True, text=True, timeout=60, check=False)
    check(done.returncode == 0, f"bpftool: {done.stdout}{done.stderr}")
    return sum(any(int(byte, 16) for byte in item["value"]) for item in json.loads(done.stdout))


def take(bed):
    """What both daemons hold while no flow is there."""

    def at_rest():
        held = look(bed)
        busy = [node for node in (1, 2) for state in ("handshake", "established", "closing") if
                held[node]["slots"][state]]
        check(not busy, f"there are flows: {held}")
        time.sleep(0.2)
        # What answers a request of ours is not always gone yet when the next one comes.
        return held if held == look(bed) else None

    return until(at_rest, "both daemons are at rest")


def look(bed):
    """What both daemons hold just now. Pipes apart: they keep some for the next flows."""
    held = {}
    for node in (1, 2):
        opened = bed.descriptors(node)
        held[node] = {"descriptors": opened["all"] - opened["pipe"], "sockets": opened["socket"],
                      "slots": bed.flow_totals(node), "maps": {name: elements(bed, node, name) for name in MAPS}}
    return held


def settle(bed, before, seconds=20):
    """Waits until both daemons hold what they held before: else a Failure that says what is left."""

    def settled():
        now = look(bed)
        for node in (1, 2):
            for what, value in now[node].items():
                # A daemon that has been replaced may lack what its first start alone needed.
                less = what in ("descriptors", "sockets") and value < before[node][what]
                if value != before[node][what] and not less:
                    raise Failure(f"node {node}: {what} {value}, before {before[node][what]}")
            pipes = bed.descriptors(node)["pipe"]
            if pipes > PIPES_KEPT * 2 * os.cpu_count():
                raise Failure(f"node {node} has {pipes} ends of pipes open")
        return True

    until(settled, "both daemons hold what they held before", seconds)


def _mapped(pid):
    """Sums of PSS in bytes by what is mapped: "" is anonymous memory, "[heap]" included."""
    sums, name = collections.Counter(), ""
    with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as file:
        for line in file:
            words = line.split()
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                name = words[5] if len(words) > 5 and not words[5].startswith("[") else ""
            elif line.startswith("Pss:"):
                sums[name] += int(words[1]) * 1024
    return sums


def memory(bed, node):
    """(Memory of keeper and worker in bytes, the part of it that is mapped BPF maps, PSS in all).

    Memory is PSS without libraries and programs: what of those counts as ours depends on who else
    on the machine has them mapped just now."""
    sums = sum((_mapped(pid) for pid in bed.pids(node)), collections.Counter())
    tables = sum(value for name, value in sums.items() if "bpf-map" in name)
    files = sum(value for name, value in sums.items() if name.startswith("/") and not re.match(r"/(secretmem|memfd:)", name))
    return sum(sums.values()) - files, tables, sum(sums.values())


def cpu_seconds(bed, node):
    """Processor time that keeper and worker have used so far."""
    ticks = 0
    for pid in bed.pids(node):
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
