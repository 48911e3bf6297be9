# SPDX-License-Identifier: Apache-2.0
"""Socket options that an application sets before connect() are on the socket that is on the wire."""
import socket

from lib.tap import case, check, contains, equal
from lib.wire import start_watch, tos_seen

TOS = 0x28  # AF11
OPTIONS = (
    ("SO_PRIORITY", socket.SOL_SOCKET, socket.SO_PRIORITY, 4),
    ("SO_KEEPALIVE", socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ("TCP_KEEPIDLE", socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77),
    ("TCP_KEEPINTVL", socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 7),
    ("TCP_KEEPCNT", socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    ("TCP_USER_TIMEOUT", socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 33000),
)


@case("TOS, priority, keepalive and user timeout are those of the wire socket")
def inherited(bed):
    listener = bed.agent("b").listen(bed.address("b"), 5950)
    client = bed.agent("a").socket()
    client.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, TOS)
    for _, level, option, value in OPTIONS:
        client.setsockopt(level, option, value)
    watch = bed.agent("wire").call(start_watch, "n1", (bed.address("a"), 0), (bed.address("b"), 5950))
    client.connect((bed.address("b"), 5950))
    server, address = listener.accept()
    for _ in range(10):
        client.sendall(b"KMTLS-PLAINTEXT-MARKER")
        server.recv_exactly(22)
    if not bed.plain:
        wire = bed.daemon_socket(1, address, (bed.address("b"), 5950))
        try:
            seen = {name: wire.getsockopt(level, option) for name, level, option, _ in OPTIONS}
            seen["IP_TOS"] = wire.getsockopt(socket.IPPROTO_IP, socket.IP_TOS)
        finally:
            wire.close()
        expected = {name: value for name, _, _, value in OPTIONS}
        expected["IP_TOS"] = TOS
        equal(seen, expected, "options of the wire socket")
    out = bed.run("a", "ss", "-tnoH", "state", "established", "dst", f"{bed.address('b')}:5950")
    contains(out, "keepalive,", "the timer ss shows")
    counts = bed.agent("wire").call(tos_seen, watch)
    check(counts.get(TOS, 0) >= 10, f"TOS bytes on the wire: {counts}")
    if bed.plain:
        equal(set(counts), {TOS}, "TOS bytes on the wire")
    return f"TOS on the wire: {({hex(tos): count for tos, count in counts.items()})}"


@case("the IPv6 traffic class is that of the wire socket", mesh=True)
def traffic_class(bed):
    listener = bed.agent("b").listen(bed.address("b", 6), 5951)
    client = bed.agent("a").socket(10)
    client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, TOS)
    client.connect((bed.address("b", 6), 5951))
    _, address = listener.accept()
    wire = bed.daemon_socket(1, address[:2], (bed.address("b", 6), 5951))
    try:
        equal(wire.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS), TOS, "IPV6_TCLASS of the wire socket")
    finally:
        wire.close()
