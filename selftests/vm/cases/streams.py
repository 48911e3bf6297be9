# SPDX-License-Identifier: Apache-2.0
"""How connections end: half-closed, reset, refused, killed, cut. Each must arrive as what it is."""
import collections
import errno
import socket
import time

from lib.bed import MARKER
from lib.tap import case, check, equal, until
from lib.wire import forge_end, start_watch

BIG = (MARKER.encode() + b"." * 4074) * 256  # 1 MiB
REFUSED = (errno.ECONNREFUSED, errno.ECONNRESET)


def pair(bed, version=4, client="a", server="b", port=5700):
    """A connection from one pod to another: both ends."""
    listener = bed.agent(server).listen(bed.address(server, version), port)
    here = bed.agent(client).connect(bed.address(server, version), port)
    there, _ = listener.accept()
    listener.close()
    return here, there


def refusal(agent, address, port):
    """The errno a connection ends with, from connect() or from the first read; and the seconds."""
    start = time.monotonic()
    sock = agent.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    code = sock.connect_ex((address, port))
    if not code:
        data, code = sock.recv_to_end()
        check(not data, f"{address}:{port} answered {data[:60]!r}")
    sock.close()
    return code, time.monotonic() - start


def half_closed(first, second):
    """A megabyte and the first one's end; then a megabyte the other way, and the second one's."""
    sent, got = first.start("sendall", BIG), second.start("recv_to_end")
    first.agent.result(sent)
    first.shutdown(socket.SHUT_WR)
    equal(second.agent.result(got), (BIG, 0), "what the second one got, and the first one's end")
    sent = second.start("sendall", BIG)
    equal(first.recv_exactly(len(BIG)), BIG, "what the first one got after its own end")
    second.agent.result(sent)
    second.close()
    equal(first.recv_to_end(), (b"", 0), "the second one's end")
    first.close()


@case("half-close: the client ends first and still gets a megabyte")
def half_close_client(bed):
    for version in (4, 6):
        client, server = pair(bed, version)
        half_closed(client, server)


@case("half-close: the server ends first and still gets a megabyte")
def half_close_server(bed):
    for version in (4, 6):
        client, server = pair(bed, version)
        half_closed(server, client)


@case("a connection on which nothing is said ends cleanly")
def silent(bed):
    client, server = pair(bed)
    client.close()
    equal(server.recv_to_end(), (b"", 0), "the server's end")
    server.close()


@case("a reset at either end is a reset at the other")
def reset(bed):
    for version in (4, 6):
        client, server = pair(bed, version)
        client.sendall(b"x")
        equal(server.recv(1), b"x", "the first byte")
        client.reset()
        equal(server.recv_to_end(), (b"", errno.ECONNRESET), "the server's end")
        client, server = pair(bed, version)
        server.sendall(b"x")
        equal(client.recv(1), b"x", "the first byte")
        server.reset()
        equal(client.recv_to_end(), (b"", errno.ECONNRESET), "the client's end")


@case("a reset while the other end is reading is a reset, not an end")
def reset_while_reading(bed):
    for first, second in ((0, 1), (1, 0)):
        ends = pair(bed)
        waiting = ends[second].start("recv_to_end")
        time.sleep(0.2)
        ends[first].reset()
        equal(ends[second].agent.result(waiting), (b"", errno.ECONNRESET), "the blocked reader's end")


@case("closing with unread data is a reset")
def unread(bed):
    client, server = pair(bed)
    client.sendall(BIG[:10000])
    until(lambda: len(server.recv(10000, socket.MSG_PEEK)) == 10000, "all of it is there, unread")
    server.close()
    equal(client.recv_to_end(), (b"", errno.ECONNRESET), "the client's end")


@case("a closed port refuses, soon")
def closed_port(bed):
    since = {node: None if bed.plain else bed.log_size(node) for node in (1, 2)}
    for version in (4, 6):
        code, seconds = refusal(bed.agent("a"), bed.address("b", version), 4999)
        if bed.plain:
            equal(code, errno.ECONNREFUSED, "plain TCP's errno")
        check(code in REFUSED, f"errno {code}, not ECONNREFUSED or ECONNRESET")
        check(seconds < 5, f"it took {seconds:.1f} s")
    if not bed.plain:
        bed.wait_log(1, since[1], "reason=dial-refused")


@case("an application that is killed: its peer gets what was sent, and the end plain TCP gives")
def killed(bed):
    for victim in ("server", "client"):
        doomed = bed.new_agent("b" if victim == "server" else "a")
        if victim == "server":
            listener = doomed.listen(bed.address("b"), 5701)
            survivor = bed.agent("a").connect(bed.address("b"), 5701)
            dying, _ = listener.accept()
        else:
            listener = bed.agent("b").listen(bed.address("b"), 5702)
            dying = doomed.connect(bed.address("b"), 5702)
            survivor, _ = listener.accept()
            listener.close()
        dying.sendall(BIG[:300000])
        doomed.kill()
        equal(survivor.recv_to_end(), (BIG[:300000], 0), f"the survivor of a killed {victim}")
        survivor.close()


@case("an application that is killed with unread data resets its peer")
def killed_unread(bed):
    doomed = bed.new_agent("b")
    listener = doomed.listen(bed.address("b"), 5703)
    client = bed.agent("a").connect(bed.address("b"), 5703)
    server, _ = listener.accept()
    client.sendall(BIG[:5000])
    until(lambda: len(server.recv(5000, socket.MSG_PEEK)) == 5000, "all of it is there, unread")
    doomed.kill()
    equal(client.recv_to_end(), (b"", errno.ECONNRESET), "the client's end")


@case("a slow reader holds up the sender, and gets every byte", timeout=90)
def back_pressure(bed):
    client, server = pair(bed)
    client.settimeout(2)
    sent, blocked = 0, False
    for _ in range(200):
        try:
            sent += client.send(BIG[sent % len(BIG):])
        except TimeoutError:
            blocked = True
            break
    check(blocked, f"{sent >> 20} MiB were taken with nobody reading")
    check(sent < 64 << 20, f"{sent >> 20} MiB pile up with nobody reading")
    client.shutdown(socket.SHUT_WR)
    data, code = server.recv_to_end()
    equal((len(data), code), (sent, 0), "bytes, end")
    equal(data == (BIG * (sent // len(BIG) + 1))[:sent], True, "the bytes are those that were sent")
    return f"{sent >> 10} KiB in between"


Victim = collections.namedtuple("Victim", "node version")
VICTIMS = [Victim(node, version) for node in (1, 2) for version in (4, 6)]


def cut(bed, flags, victim):
    """Someone on the wire ends the connection towards a node; what its pod gets to see of it, and the other."""
    client, server = pair(bed, victim.version)
    client.sendall(MARKER.encode())
    server.recv_exactly(len(MARKER))
    ends = [(bed.address("a", victim.version), client.getsockname()[1]), (bed.address("b", victim.version), 5700)]
    here, there = (client, server) if victim.node == 1 else (server, client)
    if victim.node == 1:
        ends.reverse()
    watch = bed.agent("wire").call(start_watch, f"n{victim.node}", *ends)
    there.sendall(MARKER.encode())
    equal(here.recv_exactly(len(MARKER)), MARKER.encode(), "what came before the cut")
    check(bed.agent("wire").call(forge_end, watch, flags), "the forged packet went out")
    return here.recv_to_end(), there


@case("a forged FIN on the wire cuts plain TCP short (so the next test is one)", plain=True)
def forged_fin_plain(bed):
    for victim in VICTIMS:
        end, _ = cut(bed, 0x11, victim)
        equal(end, (b"", 0), f"what the application takes for the end, {victim}")


@case("truncation: a FIN without close_notify is a reset, never an end; either side, either IP", mesh=True)
def truncated(bed):
    for victim in VICTIMS:
        since = bed.log_size(victim.node)
        before = bed.counter(victim.node, "truncated")
        end, _ = cut(bed, 0x11, victim)
        equal(end, (b"", errno.ECONNRESET), f"what the application gets, {victim}")
        bed.wait_log(victim.node, since, "reason=truncated")
        until(lambda: bed.counter(victim.node, "truncated") == before + 1, f"it is counted, {victim}", 5)


@case("a forged RST on the wire is a reset; either side, either IP", mesh=True)
def forged_reset(bed):
    for victim in VICTIMS:
        before = bed.counter(victim.node, "peer-reset")
        end, _ = cut(bed, 0x14, victim)
        equal(end, (b"", errno.ECONNRESET), f"what the application gets, {victim}")
        until(lambda: bed.counter(victim.node, "peer-reset") == before + 1, f"it is counted, {victim}", 5)
