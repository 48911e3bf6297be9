# SPDX-License-Identifier: Apache-2.0
"""A network that misbehaves under established connections, and a clock that is set. Every stream stays
byte-exact, nothing hangs, and no daemon spins."""
import os
import socket
import struct
import subprocess
import time

from lib import balance
from lib.tap import Skip, case, check, equal, until
from lib.traffic import Traffic

ROUTES = (("a", "b", 4), ("a", "b", 6), ("b", "a", 4), ("b", "a", 6))
RATE = 32768


def go_on(traffic, seconds=1.0):
    """Lets the traffic pass for a while."""
    time.sleep(seconds)
    return traffic


@case("5 % loss, a quarter reordered, 50 ms: every byte arrives", timeout=200)
def netem(bed):
    with Traffic(bed, ROUTES, 4, RATE) as traffic:
        for place in ("n1", "n2"):
            bed.run(place, "tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "50ms", "reorder", "25%",
                    "loss", "5%", "limit", "100000")
        try:
            go_on(traffic, 4 * bed.scale)
            statistics = bed.run("n1", "tc", "-s", "qdisc", "show", "dev", "eth0")
        finally:
            for place in ("n1", "n2"):
                bed.run(place, "tc", "qdisc", "del", "dev", "eth0", "root")
        said = traffic.stop_whole()
    check("dropped 0," not in statistics, f"netem has dropped nothing: {statistics}")
    return said


def set_mtu(bed, value, places):
    for place, interface in places:
        bed.run(place, "ip", "link", "set", interface, "mtu", str(value))


@case("the MTU between the nodes falls from 9000 to 1280 under traffic: every byte arrives", timeout=120)
def mtu(bed):
    between = [("wire", "br0"), ("wire", "n1"), ("wire", "n2"), ("n1", "eth0"), ("n2", "eth0")]
    inside = [("n1", "pod-a"), ("n2", "pod-b"), ("a", "eth0"), ("b", "eth0")]
    set_mtu(bed, 9000, between + inside)
    try:
        with Traffic(bed, ROUTES, 4, RATE) as traffic:
            go_on(traffic, 2)
            segments = bed.run("a", "ss", "-tni", "dst", bed.address("b"))
            check("mss:89" in segments, f"no connection has large segments: {segments}")
            set_mtu(bed, 1280, between)
            go_on(traffic, 3)
            segments = bed.run("a", "ss", "-tni", "dst", bed.address("b"))
            check("pmtu:1280" in segments, f"no connection has noticed the MTU: {segments}")
            return traffic.stop_whole()
    finally:
        set_mtu(bed, 1500, between + inside)


CONNTRACK = """table inet track {
	chain through {
		type filter hook forward priority 0
		ct state invalid drop
		ct state established,related,new counter accept
	}
}
"""


def flush_conntrack():
    """In an agent: forgets all connections of the namespace (nfnetlink, IPCTNL_MSG_CT_DELETE of everything)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netlink:
        request, acknowledge = 1, 4
        netlink.send(struct.pack("=IHHII BBH", 20, 1 << 8 | 2, request | acknowledge, 1, 0, 0, 0, 0))
        answer = netlink.recv(4096)
    return struct.unpack_from("=i", answer, 16)[0]


@case("conntrack forgets every connection, again and again: every byte arrives", timeout=120, kernel="6.12")
def conntrack(bed):
    done = subprocess.run(["modprobe", "-a", "nf_conntrack", "nf_conntrack_netlink", "nft_ct"], capture_output=True,
                          text=True, check=False)
    check(done.returncode == 0, f"modprobe: {done.stderr}")
    rules = bed.dir + "/conntrack.nft"
    with open(rules, "w", encoding="ascii") as file:
        file.write(CONNTRACK)
    for place in ("n1", "n2"):
        bed.run(place, "nft", "-f", rules)
    try:
        with Traffic(bed, ROUTES, 4, RATE) as traffic:
            for _ in range(4 * bed.scale):
                until(lambda: int(bed.agent("n1").read_file("/proc/sys/net/netfilter/nf_conntrack_count")) >=
                      traffic.total, "connections are tracked", 20)
                for place in ("n1", "n2"):
                    equal(bed.agent(place).call(flush_conntrack), 0, "the errno of flushing")
                go_on(traffic, 0.7)
            return traffic.stop_whole()
    finally:
        for place in ("n1", "n2"):
            bed.run(place, "nft", "delete", "table", "inet", "track")


@case("the link between the nodes is down for a while: the connections go on after it", timeout=200, kernel="6.12")
def link_down(bed):
    seconds = 20 if bed.scale > 1 else 5
    with Traffic(bed, ROUTES, 4, RATE // 4) as traffic:
        go_on(traffic)
        used = None if bed.plain else [balance.cpu_seconds(bed, node) for node in (1, 2)]
        bed.run("wire", "ip", "link", "set", "n2", "down")
        go_on(traffic, seconds)
        spent = [] if bed.plain else [balance.cpu_seconds(bed, node) - then for node, then in zip((1, 2), used)]
        bed.run("wire", "ip", "link", "set", "n2", "up")
        go_on(traffic)
        said = traffic.stop_whole(150)
    for node, value in enumerate(spent, 1):
        check(value < seconds * 0.5, f"node {node} used {value:.1f} s of processor time in {seconds} s without a link")
    return said + (f"; processor time meanwhile {spent}" if spent else "")


def set_clock(offset):
    now = time.clock_gettime(time.CLOCK_REALTIME)
    time.clock_settime(time.CLOCK_REALTIME, now + offset)


@case("the clock is set forward and back: connections go on, and new ones work", timeout=120, kernel="6.12")
def clock(bed):
    """Ten minutes: less than certificates are valid for, more than any timer of the daemon."""
    if not os.path.exists("/run/vmtest"):
        raise Skip("sets the machine's clock, so only in a guest")
    bed.serve("b")
    with Traffic(bed, ROUTES, 2, RATE) as traffic:
        # Each is undone by the next. Before a certificate's time nothing new can be asked for.
        for offset in (600, -1200, 600):
            set_clock(offset)
            go_on(traffic, 1.5)
            if offset > 0:
                bed.load("a", "storm", "-r", 2, bed.at("b", 5001), bed.at("b", 5002, 6))
        return traffic.stop_whole()


@case("a daemon with idle connections uses no processor time to speak of, whatever the clock does", mesh=True,
      timeout=200, kernel="6.12")
def quiet(bed):
    seconds = 60 if bed.scale > 1 else 15
    jumps = (600, -1200, 600) if os.path.exists("/run/vmtest") else (0, 0, 0)
    with Traffic(bed, ROUTES, 4, 0) as traffic:
        time.sleep(1)
        before = [balance.cpu_seconds(bed, node) for node in (1, 2)]
        for jump in jumps:
            time.sleep(seconds / 4)
            set_clock(jump)
        time.sleep(seconds / 4)
        spent = [balance.cpu_seconds(bed, node) - then for node, then in zip((1, 2), before)]
        traffic.stop_whole()
    said = f"{', '.join(f'{value:.2f}' for value in spent)} s of processor time in {seconds} s"
    # One emulated second is worth some 40 ms of a real one.
    check(max(spent) < seconds * 0.04, said)
    return said
