# SPDX-License-Identifier: Apache-2.0
"""What tools/benchload measures in a session, and the memory of connections that are idle.

A result is what a cell of the table holds: metric, unit, value (the median), runs (how many), spread (the largest
less the smallest, in percent of the median), and in time p50, p90, p99 and the percentiles.
"""
import contextlib
import glob
import json
import os
import re
import resource
import shutil
import statistics
import time

from .bed import PORTS, Trouble
from .plan import BY_NAME

PER_GB = 1e9


def result(metric, unit, values, **more):
    value = statistics.median(values)
    spread = (max(values) - min(values)) / abs(value) * 100 if value else 0.0
    return {"metric": metric, "unit": unit, "value": round(value, 3), "runs": len(values), "spread": round(spread, 2), **more}


class Clock:
    """Of the whole machine. In instructions a nanosecond of a CPU that does not sleep is one instruction."""

    def __init__(self, instructions):
        self.instructions = instructions

    def unit(self, kind):
        if kind == "memory":
            return "B"
        if self.instructions:
            return "instructions/B" if kind == "byte" else "instructions"
        return "CPU s/GB" if kind == "byte" else "us"

    @staticmethod
    def idle():
        """Nanoseconds that the CPU slept: nothing was executed, but the clock went on."""
        with open("/proc/timer_list", encoding="ascii", errors="replace") as file:
            slept = [int(line.split()[2]) for line in file if ".idle_sleeptime" in line]
        if not slept:
            raise Trouble("this kernel does not say in /proc/timer_list how long it slept")
        return sum(slept)

    def cost(self, work):
        """What it costs, of the one CPU; in time: how long it takes. With what it returns."""
        before = self.idle() if self.instructions else 0
        start = time.monotonic_ns()
        value = work()
        elapsed = time.monotonic_ns() - start
        return elapsed - (self.idle() - before if self.instructions else 0), value

    def judge(self, metric, kind, facts):
        """The result of what benchload printed."""
        runs = facts["runs"]
        if self.instructions:
            return result(metric, self.unit(kind), [(run["elapsed"] - run["idle"]) / run["count"] for run in runs])
        if kind == "byte":
            rates = sorted(run["count"] * 8 / run["elapsed"] for run in runs)
            return result(metric, self.unit(kind), [run["busy"] / 1e9 / run["count"] * PER_GB for run in runs],
                          gbit_s=round(statistics.median(rates), 3))
        times = [value / 1000 for value in facts["percentiles"]]
        means = [run["elapsed"] / run["count"] / 1000 for run in runs]
        good = result(metric, self.unit(kind), means)
        return {**good, "value": round(times[50], 3), "p50": times[50], "p90": times[90], "p99": times[99],
                "percentiles": times}


def load(session, *arguments):
    host, port = session.arm.address(PORTS["load"])
    out = session.bed.run("a", session.bed.tools + "/benchload", arguments[0], f"{host}:{port}", *map(str, arguments[1:]),
                          env=session.arm.environment)
    facts = json.loads(out)
    if "BENCH_PROFILE" in os.environ:
        keep_symbols(os.environ["BENCH_PROFILE"], facts)
    return facts


def keep_symbols(directory, facts):
    """For vmtest/profile: what was measured, the kernel's symbols, and where every program that is still there has its
    files in memory. benchload has told its own."""
    with open(directory + "/load.json", "w", encoding="ascii") as file:
        json.dump(facts, file)
    shutil.copyfile("/proc/kallsyms", directory + "/kallsyms")
    for path in glob.glob("/proc/[0-9]*/maps"):
        with contextlib.suppress(OSError):
            shutil.copyfile(path, f"{directory}/maps.{path.split('/')[2]}")


def rtt(session, metric):
    small = metric.startswith("rtt_64")
    return load(session, "rtt", 64 if small else 16384, session.sizes["rtt" if small else "rtt_16k"], session.sizes["runs"])


def stream(session, metric):
    return load(session, "stream", 16 if "_16" in metric else 1, session.sizes["stream"], session.sizes["runs"])


def connect(session, metric):
    return load(session, "connect", session.sizes["conn"], session.sizes["runs"])


LOADS = {"rtt": rtt, "stream": stream, "conn": connect}


def measure(session, metric, name=None):
    """One of the loads; name: what its result is called."""
    facts = LOADS[metric.split("_")[0]](session, metric)
    return session.clock.judge(name or metric, BY_NAME[metric].kind, facts)


# --- memory -----------------------------------------------------------------------------------------------


def user_memory(pids):
    """Bytes: the proportional share (PSS) of all the processes."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    return total * 1024


def kernel_memory():
    """Bytes of slab (sockets, files, cipher contexts), page tables, stacks and what each CPU has of its own, and of
    sockets' buffers. Not what is free: a CPU keeps megabytes of free pages that count as taken."""
    with open("/proc/meminfo", encoding="ascii") as file:
        info = {line.split(":")[0]: int(line.split()[1]) for line in file}
    taken = sum(info[name] for name in ("Slab", "KernelStack", "PageTables", "Percpu")) * 1024
    with open("/proc/net/sockstat", encoding="ascii") as file:
        pages = re.search(r"^TCP: .* mem (\d+)", file.read(), re.M)
    return taken + int(pages[1]) * resource.getpagesize()


def settle():
    """What is cached, and could be given back, is given back, but for the pages of files."""
    time.sleep(2)
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("2")
    for path in glob.glob("/sys/kernel/slab/*/shrink"):
        with contextlib.suppress(OSError), open(path, "w", encoding="ascii") as file:
            file.write("1")
    time.sleep(1)


def hold(session, count):
    """A client that holds so many connections; whoever gets it stops it."""
    host, port = session.arm.address(PORTS["load"])
    process = session.bed.spawn("a", session.bed.tools + "/benchload", "idle", f"{host}:{port}", str(count),
                                pipe=True, env=session.arm.environment)
    line = process.stdout.readline()
    if line != b"ready\n":
        session.bed.stop(process)
        raise Trouble(f"{count} idle connections could not be opened: {session.bed.show_log()}")
    return process


def memory(session):
    """Both cells. What a first connection makes once is there before."""
    count = session.sizes["memory"]
    session.bed.stop(hold(session, 10))
    settle()
    user, kernel = user_memory(session.arm.processes()), kernel_memory()
    process = hold(session, count)
    settle()
    user, kernel = user_memory(session.arm.processes()) - user, kernel_memory() - kernel
    session.bed.stop(process)
    # What is shared by processes changes hands: a few pages less are none.
    return [result("mem_user_idle", "B", [max(user, 0) / count]), result("mem_kernel_idle", "B", [kernel / count])]


def raise_limits():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
