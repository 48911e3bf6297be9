# SPDX-License-Identifier: Apache-2.0
"""What belongs to a run: sessions of an arm, and the cells that each fills. The host asks what is missing, the
guest does it in this order."""
import collections

from . import arms

# weight: about how long it takes in a full run, a round trip of 64 bytes being 1.
Metric = collections.namedtuple("Metric", "name title session kind weight")
Step = collections.namedtuple("Step", "arm session metrics weight")

# Of a session: the cipher suite, and whether TLS sessions are resumed; "symmetric": without (EC)DHE.
SESSIONS = {"base": ("aes128", False), "resumed": ("aes128", True), "symmetric": ("aes128", "symmetric"), "aes256": ("aes256", False), "growth": ("aes128", False)}

METRICS = (
    Metric("rtt_64", "round trip, 64 B", "base", "operation", 1),
    Metric("rtt_16k", "round trip, 16 KB", "base", "operation", 2),
    Metric("stream_64k_1", "stream, 1 connection", "base", "byte", 3),
    Metric("stream_64k_16", "stream, 16 connections", "base", "byte", 3),
    Metric("conn_full", "new connection, full handshake", "base", "operation", 4),
    Metric("conn_resumed", "new connection, resumed", "resumed", "operation", 4),
    Metric("conn_symmetric", "new connection, resumed, symmetric", "symmetric", "operation", 4),
    Metric("mem_user_idle", "user memory, idle connection", "base", "memory", 40),
    Metric("mem_kernel_idle", "kernel memory, idle connection", "base", "memory", 40),
    Metric("redis_p1", "redis-benchmark -P 1, a SET", "base", "operation", 8),
    Metric("redis_p16", "redis-benchmark -P 16, a SET", "base", "operation", 8),
    Metric("wrk_small", "wrk, 612 B, keep-alive", "base", "operation", 16),
    Metric("wrk_100k", "wrk, 100 KB, keep-alive", "base", "operation", 16),
    Metric("wrk_small_new", "wrk, 612 B, new connection", "base", "operation", 16),
    Metric("wrk_100k_new", "wrk, 100 KB, new connection", "base", "operation", 16),
    Metric("pgbench", "pgbench -S, a transaction", "base", "operation", 8),
    Metric("rtt_64_aes256", "round trip, 64 B", "aes256", "operation", 1),
    Metric("rtt_16k_aes256", "round trip, 16 KB", "aes256", "operation", 2),
    Metric("stream_64k_1_aes256", "stream, 1 connection", "aes256", "byte", 3),
    Metric("stream_64k_16_aes256", "stream, 16 connections", "aes256", "byte", 3),
    Metric("conn_full_aes256", "new connection, full handshake", "aes256", "operation", 4),
)
BY_NAME = {metric.name: metric for metric in METRICS}
APPLICATIONS = ("redis_p1", "redis_p16", "wrk_small", "wrk_100k", "wrk_small_new", "wrk_100k_new", "pgbench")
TOGETHER = {"mem_user_idle": ("mem_user_idle", "mem_kernel_idle")}  # one step fills both

GROWN = ("rtt_64", "stream_64k_1", "conn_full")
FLOWS = {False: (1, 100, 10000), True: (1, 100)}  # by quick
LOOPS = {False: (1, 2), True: (1, 2)}  # event loops of each daemon
PEERS = {False: (10, 10000, 100000), True: (10, 10000)}

# Counts of a full and of a quick run. memory: idle connections; the pairs are how much a program does in
# two runs, of which the difference counts. wrk: seconds that are looked at.
SIZES = {
    False: {"runs": 3, "rtt": 400, "rtt_16k": 200, "stream": 8 << 20, "conn": 25, "memory": 1000, "wrk": 0.8,
            "redis": (500, 3000), "redis_p16": (4000, 24000), "pgbench": (50, 450)},
    True: {"runs": 3, "rtt": 60, "rtt_16k": 40, "stream": 2 << 20, "conn": 4, "memory": 50, "wrk": 0.4,
           "redis": (200, 1700), "redis_p16": (800, 8000), "pgbench": (20, 320)},
}

# In time, where a machine does as much in a moment.
TIMES = {"rtt": 20, "rtt_16k": 20, "stream": 32, "conn": 8, "redis": 20, "redis_p16": 20, "pgbench": 20, "wrk": 5}


def sizes(quick, instructions):
    if instructions:
        return SIZES[quick]
    return {name: tuple(TIMES[name] * count for count in value) if isinstance(value, tuple) else value * TIMES.get(name, 1)
            for name, value in SIZES[quick].items()}


def growth_points(quick):
    return [(kind, count) for kind, counts in (("flows", FLOWS), ("loops", LOOPS), ("peers", PEERS)) for count in counts[quick]]


def growth_name(metric, kind, count):
    return f"{metric}_{kind}_{count}"


def names():
    """What --only takes."""
    return [*arms.NAMES, *BY_NAME, "applications", "growth"]


def of_session(arm, session):
    """Without TLS there is nothing to resume and no other cipher: the same connection is measured as for the others."""
    if session == "symmetric" and not arm.symmetric:
        return []
    if arm.tls:
        return [metric for metric in METRICS if metric.session == session]
    return [metric for metric in METRICS if metric.session in ("base", "resumed")] if session == "base" else []


def steps(only, quick):
    """In order. only: names of arms, of metrics, or of both; empty: all."""
    chosen_arms = [name for name in arms.NAMES if name in only] or arms.NAMES
    chosen = {name for name in only if name not in arms.NAMES}
    if "applications" in chosen:
        chosen |= set(APPLICATIONS)
    plan = []
    for name in chosen_arms:
        arm = arms.find(name)
        if arm.unavailable():
            continue
        for session in SESSIONS:
            plan += [step_of(name, session, metric) for metric in of_session(arm, session)
                     if metric.name not in arm.missing and metric.name != "mem_kernel_idle" and
                     (not chosen or metric.name in chosen or (metric.name == "mem_user_idle" and "mem_kernel_idle" in chosen))]
        if name == "kmtls" and (not chosen or "growth" in chosen):
            plan += [Step(name, "growth", tuple(growth_name(metric, kind, count) for metric in GROWN),
                          8 + count // (25 if kind == "flows" else 10000))  # a handshake each, a line of a file each
                     for kind, count in growth_points(quick)]
    return plan


def step_of(name, session, metric):
    return Step(name, session, TOGETHER.get(metric.name, (metric.name,)), metric.weight)


def cells(plan):
    """All (arm, metric) that a run of this plan must fill."""
    return [(step.arm, metric) for step in plan for metric in step.metrics]
