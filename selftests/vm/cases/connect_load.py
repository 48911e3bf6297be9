# SPDX-License-Identifier: Apache-2.0
"""connect() under load, and with everything that can go wrong while it is held. Nothing may remain."""
import os
import signal
import socket
import time

from lib.tap import Skip, case, check, equal, until

from .connect import MODES, PATIENT, dial, end_dial, held_state, network, number, result, settle, start_dial


def parallel(bed):
    return 2000 if bed.scale > 1 else 300


@case("many connects at once: each right, with the right addresses at both ends", timeout=400, kernel="6.12")
def storm(bed):
    network(bed)
    before = held_state(bed)
    third = parallel(bed) // 3
    # 6 is the kernel's own default, 127 s: two thousand handshakes take an emulated guest about half of it
    attempts, totals = dial(bed, "a", *(f"id=storm{family},to={to},mode={mode},count={third},reset,syncnt=6"
                                        for family, to, mode in ((4, bed.at("b", 5001), "epoll"),
                                                                 (6, bed.at("b", 5002, 6), "poll"),
                                                                 ("d", bed.at("d", 5003), "blocking"))),
                            quiet=True, timeout=380)
    equal(totals["totals"], {"OK": 3 * third}, f"how they ended; the first: {attempts[:1]}")
    settle(bed, before, 30)
    return f"{3 * third} in {totals['seconds']} s, slowest {totals['slowest'] / 1000:.1f} s"


@case("500 failures at once, of four kinds", timeout=150, kernel="6.12")
def failures(bed):
    network(bed)
    before = held_state(bed)
    each = 125
    made = [f"id=closed,to={bed.at('b', 4999)},mode=poll,count={each},{PATIENT}",
            f"id=closed6,to={bed.at('n2', 4999, 6)},mode=epoll,count={each},{PATIENT}",
            f"id=no-route,to={number(3, 80)[0]},count={each},{PATIENT}",
            f"id=swallowed,to={number(4, 80)[0]},mode=poll,count={each}"]
    attempts, totals = dial(bed, "a", *made, timeout=140)
    wanted = {"closed": "ECONNREFUSED", "closed6": "ECONNREFUSED", "no-route": "EHOSTUNREACH", "swallowed": "ETIMEDOUT"}
    wrong = [(attempt["id"], result(attempt), attempt["ms"]) for attempt in attempts
             if result(attempt) != wanted[attempt["id"]]]
    equal(len(attempts), 4 * each, "connects")
    check(not wrong, f"{len(wrong)} are wrong, e.g. {wrong[:5]}")
    settle(bed, before)
    return f"in {totals['seconds']} s, slowest {totals['slowest'] / 1000:.1f} s"


@case("one source port again and again: served, refused, refused by the handshake, served", timeout=120)
def source_port(bed):
    """TIME_WAIT is kept away by ending with RST, as an application must that reuses its port so fast."""
    network(bed)
    before = held_state(bed)
    good = {4: bed.at("b", 5001), 6: bed.at("b", 5001, 6)}
    closed = {4: bed.at("b", 4999), 6: bed.at("b", 4999, 6)}
    other = {4: bed.at("d", 5001), 6: bed.at("b", 5002, 6)}
    prefixes = (bed.address("c") + "/32", bed.address("c", 6) + "/128")
    failing = {4: bed.at("c", 5001), 6: bed.at("c", 5001, 6)}
    if bed.plain:
        failing = closed
    else:
        for prefix in prefixes:
            bed.kmtls(1, "peer", "del", prefix)
            bed.kmtls(1, "peer", "add", prefix, "--id", "spiffe://example.org/somebody-else")
    rounds = 3 * bed.scale
    try:
        attempts, _ = dial(bed, "a", *(f"id=port{family},from={bed.at('a', 34000 + family, family)},mode=epoll,rounds="
                                       f"{rounds},reset,{PATIENT},to=" +
                                       "+".join((good[family], closed[family], failing[family], other[family]))
                                       for family in (4, 6)), timeout=110)
    finally:
        if not bed.plain:
            for prefix in prefixes:
                bed.kmtls(1, "peer", "del", prefix)
                bed.kmtls(1, "peer", "add", prefix, "--id", bed.env["c_id"])
    equal(len(attempts), 8 * rounds, "connects")
    for attempt in attempts:
        family = int(attempt["id"][-1])
        equal(result(attempt), ("OK", "ECONNREFUSED", "ECONNREFUSED", "OK")[attempt["to"]], str(attempt))
        if result(attempt) == "OK":
            equal(attempt["local"], bed.at("a", 34000 + family, family), "getsockname")
            equal(attempt["saw"], attempt["local"], "what the server sees")
    settle(bed, before)


@case("the same socket connects again: after a refusal, after connect(AF_UNSPEC)", timeout=120)
def same_socket(bed):
    network(bed)
    before = held_state(bed)
    made = []
    for mode in MODES:
        for family in (4, 6):
            good, closed = bed.at("b", 5001, family), bed.at("b", 4999, family)
            made.append(f"id=refused/{mode}/{family},mode={mode},same,{PATIENT},to={closed}+{closed}+{good}")
            made.append(f"id=unspec/{mode}/{family},mode={mode},same,unspec,{PATIENT},to={good}+{closed}+{good}+"
                        f"{bed.at('b', 5002, family)}")
    # Disconnected while it is held, then elsewhere at once.
    for family, swallowed in zip((4, 6), number(4, 80)):
        made.append(f"id=held/{family},mode=poll,same,unspec,wait=300,to={swallowed}+{bed.at('b', 5003, family)}+"
                    f"{swallowed}+{bed.at('b', 5001, family)}")
    wanted = {"refused": ("ECONNREFUSED", "ECONNREFUSED", "OK"), "unspec": ("OK", "ECONNREFUSED", "OK", "OK"),
              "held": ("gave up", None, "gave up", None)}
    attempts, _ = dial(bed, "a", *made, timeout=110)
    for attempt in attempts:
        expected = wanted[attempt["id"].split("/")[0]][attempt["to"]]
        # 300 ms may be too short for a handshake in an emulated guest: then that gave up, too.
        check(result(attempt) == expected or expected is None and result(attempt) in ("OK", "gave up"), str(attempt))
    settle(bed, before)


@case("applications that are killed, or close, while their connects are held leave nothing", timeout=60)
def killed(bed):
    network(bed)
    before = held_state(bed)
    gone = 0 if bed.plain else bed.counter(1, "local-gone")
    count = 50
    process = start_dial(bed, "a", [f"to={to},count={count},{PATIENT},mode={mode}" for to, mode in
                                    zip(number(4, 80), ("blocking", "poll"))])
    try:
        if not bed.plain:
            until(lambda: bed.kmtls(1, "status")["flows"]["handshake"] >= 2 * count, f"{2 * count} are held", 30)
        else:
            time.sleep(2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    settle(bed, before, 8)
    if not bed.plain:
        equal(bed.counter(1, "local-gone"), gone + 2 * count, "attempts whose end the daemon was told of")


@case("a wire that takes 1.5 s: SYNs are repeated while held, and there is one connection", timeout=90)
def slow_wire(bed):
    network(bed)
    before = held_state(bed)
    bed.run("n2", "tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "1500ms", "limit", "100000")
    counted = None if bed.plain else bed.counters(1)
    try:
        attempts, _ = dial(bed, "a", *(f"id={mode}/{family},to={bed.at('b', 5001, family)},mode={mode},{PATIENT}"
                                       for mode in MODES for family in (4, 6)), timeout=80)
    finally:
        bed.run("n2", "tc", "qdisc", "del", "dev", "eth0", "root")
    for attempt in attempts:
        equal(result(attempt), "OK", str(attempt))
        check(attempt["ms"] > 1400, f"{attempt['id']} took only {attempt['ms']} ms")
    if counted:
        now = bed.counters(1)
        equal(now.get("established", 0) - counted.get("established", 0), 6, "connections that were established")
        check(now.get("held", 0) - counted.get("held", 0) >= 12, "each SYN was held at least twice")
        for name in ("stale", "local-gone", "retried"):
            equal(now.get(name, 0), counted.get(name, 0), f"a repetition is no new attempt: counter {name}")
    settle(bed, before)
    return f"slowest {max(attempt['ms'] for attempt in attempts):.0f} ms"


LOSE = """table inet lose {{
	chain in {{
		type filter hook input priority 0
		iif lo tcp flags & (syn | ack) == syn numgen inc mod 1000000 < {count} counter drop
	}}
}}
"""


@case("the injected SYN is lost: the application's repetition goes through by itself", mesh=True, timeout=60)
def lost_injection(bed):
    network(bed)
    before = held_state(bed)
    with open(bed.dir + "/lose.nft", "w", encoding="ascii") as file:
        file.write(LOSE.format(count=3))
    bed.run("a", "nft", "-f", bed.dir + "/lose.nft")
    counted = bed.counters(1)
    try:
        attempts, _ = dial(bed, "a", *(f"id={name},to={to},{PATIENT}" for name, to in
                                       (("4", bed.at("b", 5001)), ("6", bed.at("b", 5001, 6)),
                                        ("4b", bed.at("d", 5001)))), timeout=50)
        dropped = bed.run("a", "nft", "list", "table", "inet", "lose")
    finally:
        bed.run("a", "nft", "delete", "table", "inet", "lose")
    check("counter packets 3 " in dropped, f"three SYNs were to be lost: {dropped}")
    for attempt in attempts:
        equal(result(attempt), "OK", str(attempt))
        check(attempt["ms"] > 900, f"{attempt['id']}: after {attempt['ms']} ms no SYN can have been lost")
    equal(bed.counter(1, "established") - counted.get("established", 0), 3, "connections that were established")
    settle(bed, before)


@case("the ring buffer overflows while the daemon stands still: it recovers", mesh=True, timeout=200)
def ring_full(bed):
    """8456 events fit; each connect that is given up makes two."""
    if bed.scale == 1:
        raise Skip("takes long: --long")
    network(bed)
    before = held_state(bed)
    counted = bed.counters(1)
    pids = bed.pids(1)
    threads = 20
    rounds = 500
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        _, totals = dial(bed, "a", f"to={bed.at('b', 5001)},mode=none,mute,reset,count={threads},rounds={rounds}",
                         quiet=True, timeout=150)
        waiting = start_dial(bed, "a", [f"id={family},to={bed.at('b', 5001, family)},syncnt=7" for family in (4, 6)])
        time.sleep(0.5)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    equal(totals["totals"], {"EINPROGRESS": threads * rounds}, "connects that were held")
    attempts, _ = end_dial(waiting, 100)
    for attempt in attempts:
        equal(result(attempt), "OK", f"a connect that waited for the daemon: {attempt}")
    check(bed.counter(1, "ring-full") > counted.get("ring-full", 0), "ring-full was counted")
    settle(bed, before, 90)
    served, _ = dial(bed, "a", *(f"id={family},to={bed.at('b', 5001, family)},{PATIENT}" for family in (4, 6)))
    equal([result(attempt) for attempt in served], ["OK", "OK"], "connects afterwards")
    return (f"{threads * rounds} in {totals['seconds']} s, {bed.counter(1, 'ring-full') - counted.get('ring-full', 0)} "
            f"SYNs found the ring full; those that waited took {max(attempt['ms'] for attempt in attempts):.0f} ms")


@case("an IPv4 and an IPv6 connect with IP options or a flow label is held and completes")
def options(bed):
    network(bed)
    before = held_state(bed)
    listener = bed.agent("b").listen("::", 5620)
    agent = bed.agent("a")
    client = agent.socket()
    client.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x01" * 8)  # no-operation
    client.connect((bed.address("b"), 5620))
    server, _ = listener.accept()
    client.sendall(b"x")
    equal(server.recv(1), b"x", "a byte")
    client.close()
    server.close()
    client = agent.socket(socket.AF_INET6)
    client.setsockopt(socket.IPPROTO_IPV6, 70, 1)  # IPV6_AUTOFLOWLABEL
    client.connect((bed.address("b", 6), 5620))
    server, _ = listener.accept()
    client.close()
    server.close()
    listener.close()
    settle(bed, before)
