# SPDX-License-Identifier: Apache-2.0
"""Plaintext where it is allowed: relayed as it is, with its addresses and its ends, beside mutual TLS on the
same port; and where it is not, nothing has changed. The server is pod b, mostly; the client the stranger x."""
import contextlib
import errno
import hashlib
import os
import signal
import socket
import ssl
import statistics
import subprocess
import time

from lib import balance
from lib.bed import MARKER
from lib.tap import case, check, equal, not_reached, until
from lib.traffic import BAD, Killer, Traffic

from .limits import limited
from .policy import connect_and_talk, talk
from .streams import BIG, REFUSED, half_closed, pair, refusal

OFF, PERMISSIVE, STRICT = 1, 2, 3
MESH, POD, PORT = 1, 3, 4
INBOUND, OUTBOUND = 1, 2
TEXT = MARKER.encode()
ROUTES = (("x", "b", 4), ("x", "b", 6))
_held = {}  # by both daemons, before the first of these cases
PROBE = 5951  # a port that is named as bypassed


# --- policy ----------------------------------------------------------------------------------------------


def set_mode(bed, node, scope, direction, mode, pod=None, port=0):
    """An element of the map `modes`; None takes it away."""
    name = hashlib.sha256(pod.encode()).digest()[:8][::-1] if pod else bytes(8)
    key = name + bytes([scope, direction]) + port.to_bytes(2, "little") + bytes(4)
    command = ["bpftool", "map", "delete" if mode is None else "update", "pinned",
               f"{bed.env['pins']}/n{node}/modes", "key", *map(str, key)]
    if mode is not None:
        command += ["value", str(mode), "0", "0", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    check(done.returncode == 0, f"bpftool: {done.stdout}{done.stderr}")


def open_up(bed, node=2, mode=PERMISSIVE):
    set_mode(bed, node, MESH, INBOUND, mode)


@contextlib.contextmanager
def permissive(bed):
    """Inbound, for the pods of node 2."""
    if not _held:
        _held["before"] = balance.take(bed)
    open_up(bed)
    try:
        yield
    finally:
        open_up(bed, mode=STRICT)


@contextlib.contextmanager
def bypass(bed, address, *ports):
    """What node 2 knows of the address meanwhile."""
    prefix = f"{address}/{128 if ':' in address else 32}"
    known = [peer for peer in bed.kmtls(2, "peer", "list") if peer["prefix"] == prefix]
    if known:
        bed.kmtls(2, "peer", "del", prefix)
    bed.kmtls(2, "peer", "add", prefix, "--bypass", *(word for port in ports for word in ("--port", str(port))))
    try:
        yield
    finally:
        bed.kmtls(2, "peer", "del", prefix)
        for peer in known:
            bed.kmtls(2, "peer", "add", prefix, "--id", peer["id"])


class Counted:
    """Counters of node 2 since then."""

    def __init__(self, bed):
        self.bed = bed
        self.before = bed.counters(2)

    def __call__(self, name):
        return self.bed.counter(2, name) - self.before.get(name, 0)

    def check(self, **expected):
        expected = {name.replace("_", "-"): value for name, value in expected.items()}

        def counted():
            now = self.bed.counters(2)
            equal({name: now.get(name, 0) - self.before.get(name, 0) for name in expected}, expected, "counted")
            return True

        until(counted, "counters", 5)


# --- the cases -------------------------------------------------------------------------------------------


@case("permissive: a stranger's plaintext arrives, both IPs, with the true addresses on both sides", mesh=True)
def stranger(bed):
    with permissive(bed):
        for version in (4, 6):
            counted = Counted(bed)
            client, server = pair(bed, version, "x")
            talk(client, server, TEXT)
            equal(server.getpeername()[:2], client.getsockname()[:2], "the client's address, as the server sees it")
            equal(client.getpeername()[:2], server.getsockname()[:2], "the server's address, as the client sees it")
            equal(server.getsockname()[:2], (bed.address("b", version), 5700), "it is the one that was dialled")
            flow, = bed.flows(2)
            equal((flow["state"], flow["role"], flow["plaintext"], flow["cipher"], flow["peer"]["id"]),
                  ("established", "server", True, None, ""), "kmtls --json flows")
            equal((flow["peer"]["address"], flow["peer"]["port"]), client.getsockname()[:2], "its peer")
            text = subprocess.run([bed.build + "/kmtls", "--socket", f"{bed.env['state']}/n2/control.sock", "flows"],
                                  capture_output=True, text=True, timeout=30, check=True).stdout
            check(" plaintext " in text and " - " in text, f"kmtls flows: {text}")
            server.close()
            equal(client.recv_to_end(), (b"", 0), "the client's end")
            client.close()
            counted.check(plaintext=1, established=0, ended=1)


@case("permissive: a pod of the mesh still gets mutual TLS on the same port, and nothing of it is on the wire", mesh=True)
def meshed(bed):
    capture = bed.dir + "/permissive.pcap"
    with permissive(bed):
        taken = bed.listen_on_wire("wire", "br0", capture)
        counted = Counted(bed)
        for version in (4, 6):
            connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b", version), 5901, TEXT)
        counted.check(established=2, plaintext=0)
        bed.stop_listening(taken)
    seen = bed.wirecheck(capture, [MARKER], [bed.env["excluded_port"]])
    equal((seen["found"][MARKER], seen["plaintext"]), (0, 0), f"markers, connections in the clear ({seen['example']})")
    check(seen["tls"] >= 2, f"{seen['tls']} TLS connections seen")
    os.unlink(capture)


def serve_banner(address, port, count):
    """In an agent: speaks first."""
    with socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
        listener.settimeout(30)
        for _ in range(count):
            sock, _ = listener.accept()
            with sock:
                sock.sendall(b"220 ready\r\n")
                sock.recv(100)


def time_banner(address, port, count):
    """In an agent: seconds from connect to the banner, each time."""
    took = []
    for _ in range(count):
        start = time.monotonic()
        with socket.create_connection((address, port), 20) as sock:
            if not sock.recv(100).startswith(b"220"):
                raise EOFError("no banner")
            took.append(time.monotonic() - start)
            sock.sendall(b"QUIT")
    return took


@case("permissive: a server that speaks first is heard within 200 ms more than without a mesh", mesh=True,
      kernel="6.12")
def server_first(bed):
    """From a stranger, and from a pod that is in the peers map and switched off."""
    said = []
    excluded = int(bed.env["excluded_port"])
    with permissive(bed):
        set_mode(bed, 1, MESH, OUTBOUND, PERMISSIVE)
        set_mode(bed, 1, POD, OUTBOUND, OFF, "a")
        try:
            for near, version in (("x", 4), ("a", 6)):
                address, medians = bed.address("b", version), {}
                for port in (5902, excluded):
                    counted = Counted(bed)
                    serving = bed.agent("b").start(serve_banner, address, port, 3)
                    bed.wait_port("b", port, version)
                    medians[port] = statistics.median(bed.agent(near).call(time_banner, address, port, 3))
                    bed.agent("b").result(serving)
                    counted.check(plaintext=3 if port == 5902 else 0, established=0)
                more = medians[5902] - medians[excluded]
                check(0.05 < more < 0.2, f"from {near}, IPv{version}: {more * 1000:.0f} ms more")
                said.append(f"{near}{version} {more * 1000:.0f} ms more")
        finally:
            set_mode(bed, 1, POD, OUTBOUND, None, "a")
            set_mode(bed, 1, MESH, OUTBOUND, STRICT)
    return ", ".join(said)


def serve_tls(address, port, files):
    """In an agent: the application's own TLS, once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
        listener.settimeout(30)
        raw, peer = listener.accept()
        with context.wrap_socket(raw, server_side=True) as sock:
            sock.sendall(sock.recv(100).upper())
            return peer[:2], sock.selected_alpn_protocol()


def dial_tls(address, port, certificate, alpn):
    """In an agent: trusts exactly that certificate."""
    context = ssl.create_default_context(cafile=certificate)
    if alpn:
        context.set_alpn_protocols(alpn)
    with socket.create_connection((address, port), 20) as raw:
        own = raw.getsockname()[:2]
        with context.wrap_socket(raw, server_hostname="application.example") as sock:
            sock.sendall(b"hello")
            return own, sock.recv(100), ssl.DER_cert_to_PEM_cert(sock.getpeercert(True)), sock.selected_alpn_protocol()


@case("permissive: the application's own TLS passes untouched, end to end its own certificate", mesh=True,
      kernel="6.12")
def own_tls(bed):
    certificate, key = bed.dir + "/application.pem", bed.dir + "/application.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=application", "-addext", "subjectAltName=DNS:application.example", "-keyout", key, "-out",
                    certificate], check=True, capture_output=True)
    with open(certificate, encoding="ascii") as file:
        text = file.read()
    with permissive(bed):
        for version, alpn in ((4, ["h2"]), (6, None)):
            counted = Counted(bed)
            address = bed.address("b", version)
            serving = bed.agent("b").start(serve_tls, address, 5903, (certificate, key))
            bed.wait_port("b", 5903, version)
            own, answer, seen, chosen = bed.agent("x").call(dial_tls, address, 5903, certificate, alpn)
            equal(bed.agent("b").result(serving), (own, alpn and "h2"), "the client's address and the ALPN, at the server")
            equal((answer, chosen), (b"HELLO", alpn and "h2"), "the answer, and the ALPN at the client")
            equal(seen.replace("\n", ""), text.replace("\n", ""), "the certificate the client has seen")
            counted.check(plaintext=1, established=0)


@case("permissive: half-close both ways, a megabyte after it; and an end before any byte", mesh=True)
def half_close(bed):
    with permissive(bed):
        for version in (4, 6):
            client, server = pair(bed, version, "x")
            half_closed(client, server)
            client, server = pair(bed, version, "x")
            half_closed(server, client)
        listener = bed.agent("b").listen(bed.address("b"), 5904)
        for said in (b"", b"\x16\3", b"\x16\3\1\0\4\1"):  # the latter might have become a ClientHello
            client = bed.agent("x").connect(bed.address("b"), 5904)
            client.sendall(said)
            client.shutdown(socket.SHUT_WR)
            server, _ = listener.accept()
            equal(server.recv_to_end(), (said, 0), "of a client that says so much and ends")
            server.sendall(TEXT)
            server.close()
            equal(client.recv_to_end(), (TEXT, 0), "the answer")
            client.close()
        listener.close()


@case("permissive: a reset at either end is a reset at the other, also for a blocked reader and before any byte", mesh=True)
def reset(bed):
    with permissive(bed):
        for version, first, second in ((4, 0, 1), (6, 0, 1), (4, 1, 0), (6, 1, 0)):
            ends = pair(bed, version, "x")
            ends[0].sendall(b"x")
            equal(ends[1].recv(1), b"x", "the first byte")
            waiting = ends[second].start("recv_to_end")
            time.sleep(0.2)
            ends[first].reset()
            equal(ends[second].agent.result(waiting), (b"", errno.ECONNRESET), f"the other end, {version} {first}")
        for first, second in ((0, 1), (1, 0)):  # nobody has spoken
            ends = pair(bed, 6, "x")
            ends[first].reset()
            equal(ends[second].recv_to_end(), (b"", errno.ECONNRESET), f"the other end, silent, {first}")
        client, server = pair(bed, 4, "x")
        client.sendall(BIG[:10000])
        until(lambda: len(server.recv(10000, socket.MSG_PEEK)) == 10000, "all of it is there, unread")
        server.close()
        equal(client.recv_to_end(), (b"", errno.ECONNRESET), "closing with unread data")


@case("permissive: a closed port refuses; a pod that is strict refuses plaintext and takes the mesh", mesh=True)
def refused(bed):
    with permissive(bed):
        for version in (4, 6):
            code, seconds = refusal(bed.agent("x"), bed.address("b", version), 4999)
            equal(code, errno.ECONNREFUSED, "a closed port")
            check(seconds < 3, f"it took {seconds:.1f} s")
        set_mode(bed, 2, POD, INBOUND, STRICT, "b")
        try:
            for version in (4, 6):
                counted = Counted(bed)
                listener = bed.agent("b").listen(bed.address("b", version), 5905)
                client = bed.agent("x").connect(bed.address("b", version), 5905)
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer, code = client.recv_to_end()
                check(len(answer) <= 7 and code in (0, *REFUSED), f"plaintext to a strict pod: {answer!r}, errno {code}")
                not_reached(listener)
                counted.check(not_mesh=1, plaintext=0)
                connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b", version), 5905, TEXT)
                counted.check(established=1)
        finally:
            set_mode(bed, 2, POD, INBOUND, None, "b")


@case("permissive: an application whose queue is full loses nothing; one that closes at once: both ends learn it", mesh=True)
def unwilling(bed):
    with permissive(bed):
        for version in (4, 6):
            # The queue is full: it waits as it would without us, and nothing is lost.
            listener = bed.agent("b").socket(socket.AF_INET6 if version == 6 else socket.AF_INET)
            listener.bind((bed.address("b", version), 5917))
            listener.listen(0)
            own = bed.agent("b").connect(bed.address("b", version), 5917)
            client = bed.agent("x").connect(bed.address("b", version), 5917)
            client.sendall(TEXT)
            time.sleep(0.5)
            listener.accept()[0].close()
            server, _ = listener.accept()
            equal(server.recv_exactly(len(TEXT)), TEXT, "what was said meanwhile")
            server.close()
            equal(client.recv_to_end(), (b"", 0), "the end")
            own.close()
            # It accepts, and closes without a word; what it was sent it has not read.
            client = bed.agent("x").connect(bed.address("b", version), 5917)
            listener.accept()[0].close()
            equal(client.recv_to_end(), (b"", 0), "a connection that is closed at once")
            client = bed.agent("x").connect(bed.address("b", version), 5917)
            client.sendall(TEXT)
            server, _ = listener.accept()
            until(lambda: len(server.recv(len(TEXT), socket.MSG_PEEK)) == len(TEXT), "it is there, unread")
            server.close()
            equal(client.recv_to_end(), (b"", errno.ECONNRESET), "a connection that is closed unread")
            listener.close()


NAT = """table inet hairpin {
	chain back {
		type nat hook postrouting priority srcnat
		oifname "pod-b" meta nfproto ipv4 snat ip to 10.89.0.2
		oifname "pod-b" meta nfproto ipv6 snat ip6 to fd89::2
	}
}
"""


def behind_the_node(bed, near, address, port, node):
    """Translated on the way: it works, and comes from the node's address."""
    listener = bed.agent("b").listen(address, port)
    client = bed.agent(near).connect(address, port)
    server, peer = listener.accept()
    equal(peer[0], node, f"the address {near} comes from")
    talk(client, server, TEXT)
    for sock in (client, server, listener):
        sock.close()


@case("strict: what comes from the node's address may be plaintext on the probe's port only, and mesh on any", mesh=True)
def probes(bed):
    """The node itself, a stranger behind it, and a pod of the mesh whose address was translated."""
    path = bed.dir + "/hairpin.nft"
    with open(path, "w", encoding="ascii") as file:
        file.write(NAT)
    bed.run("n2", "nft", "-f", path)
    try:
        for version in (4, 6):
            node, address = bed.address("n2", version), bed.address("b", version)
            with bypass(bed, node, PROBE):
                counted = Counted(bed)
                for near in ("n2", "x"):
                    behind_the_node(bed, near, address, PROBE, node)
                for port in (PROBE, 5906):
                    behind_the_node(bed, "a", address, port, node)
                counted.check(plaintext=2, established=2)
                for near in ("n2", "x"):
                    listener = bed.agent("b").listen(address, 5906)
                    client = bed.agent(near).connect(address, 5906)
                    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    answer, code = client.recv_to_end()
                    check(len(answer) <= 7 and code in (0, *REFUSED), f"from {near} to another port: {answer!r}, errno {code}")
                    not_reached(listener)
                counted.check(plaintext=2, established=2, not_mesh=2)
    finally:
        bed.run("n2", "nft", "delete", "table", "inet", "hairpin")


def client_hello(alpn):
    """What a TLS client sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def send_in_parts(client, data, *cuts):
    last = 0
    for cut in (*cuts, len(data)):
        client.sendall(data[last:cut])
        last = cut
        time.sleep(0.02)


@case("permissive: a ClientHello in pieces is waited for; one that comes late is still taken for the mesh's", mesh=True)
def late_hello(bed):
    ours, theirs = client_hello(["kmtls/1"]), client_hello(["h2"])
    with permissive(bed):
        for version in (4, 6):
            address = bed.address("b", version)
            counted = Counted(bed)
            listener = bed.agent("b").listen(address, 5907)
            client = bed.agent("x").connect(address, 5907)
            send_in_parts(client, ours, 1, 3, 5, 6, 50, len(ours) - 1)
            equal(client.recv_exactly(3)[:1], b"\x16", "the daemon answers with a ServerHello")
            client.reset()
            client = bed.agent("x").connect(address, 5907)
            send_in_parts(client, theirs, 1, 5, len(theirs) - 1)
            server, _ = listener.accept()
            equal(server.recv_exactly(len(theirs)), theirs, "another ClientHello, as it was sent")
            equal(counted("established"), 0, "flows of the mesh")
            client.close()
            server.close()
            # Nobody speaks in time: the application is connected to, and that comes to an end.
            client = bed.agent("x").connect(address, 5907)
            server, _ = listener.accept()
            waiting = server.start("recv_to_end")
            time.sleep(0.1)
            send_in_parts(client, ours, 3, 40)
            equal(client.recv_exactly(3)[:1], b"\x16", "the daemon answers a late one, too")
            equal(server.agent.result(waiting), (b"", errno.ECONNRESET), "what the application has seen of it")
            client.reset()
            # The application has spoken, and the client knows it: too late.
            client = bed.agent("x").connect(address, 5907)
            server, _ = listener.accept()
            server.sendall(b"220 ready")
            equal(client.recv_exactly(9), b"220 ready", "the banner")
            client.sendall(ours)
            equal(server.recv_exactly(len(ours)), ours, "what it sends is for the application")
            client.close()
            server.close()
            listener.close()
            counted.check(plaintext=2, established=0)


DELAY = """table inet delay {{
	chain late {{
		type filter hook forward priority 0
		tcp dport {port} meta length > 150 counter drop
	}}
}}
"""


@case("permissive: a pod of the mesh whose first packet is lost gets mutual TLS all the same", mesh=True)
def lost_hello(bed):
    path = bed.dir + "/delay.nft"
    with open(path, "w", encoding="ascii") as file:
        file.write(DELAY.format(port=5908))
    with permissive(bed):
        counted = Counted(bed)
        listener = bed.agent("b").listen(bed.address("b"), 5908)
        bed.run("n2", "nft", "-f", path)
        client = bed.agent("a").socket()
        attempt = client.start("connect", (bed.address("b"), 5908))
        server, _ = listener.accept()  # nobody has spoken
        bed.run("n2", "nft", "delete", "table", "inet", "delay")
        equal(server.recv_to_end(), (b"", errno.ECONNRESET), "what the application sees first")
        server, peer = listener.accept()
        client.agent.result(attempt)
        talk(client, server, TEXT)
        equal(peer[:2], client.getsockname()[:2], "the client's address")
        counted.check(established=1, plaintext=0)
        client.close()
        server.close()
        listener.close()


@case("permissive: clients that say half a word are bounded in number and time; a worker that is killed while it waits "
      "for a word is followed by one that waits", mesh=True)
def half_a_word(bed):
    ours = client_hello(["kmtls/1"])
    with limited(bed, 2, "limits: {handshakes_per_source: 20}\nhandshake_timeout: 3s\npeek_timeout: 2500ms"):
        with permissive(bed):
            counted = Counted(bed)
            listener = bed.agent("b").listen(bed.address("b"), 5909)
            held, ended, seconds = bed.agent("x").call(drip, bed.address("b"), 5909, 30, ours)
            equal(held, 20, "those within the limit are waited for")
            check(set(ended) == {errno.ECONNRESET} and len(ended) == 30, f"how they end: {ended}")
            check(2 < seconds < 6, f"the last one has ended after {seconds:.1f} s")
            not_reached(listener)
            counted.check(handshake_timeout=20, too_many_handshakes=10, plaintext=0)
            silent, server = killed_peeking(bed)
            # It has said nothing in time; half a word then.
            late, early = pair(bed, 6, "x")
            late.sendall(ours[:9])
            equal(early.recv_to_end(), (b"", errno.ECONNRESET), "what the application sees of it")
            equal(late.recv_to_end(), (b"", errno.ECONNRESET), "and the client")
            counted.check(handshake_timeout=21, plaintext=1)
            silent.close()
            server.close()
    return f"{seconds:.1f} s"


def killed_peeking(bed):
    """Nothing has been taken of it: both ends of a connection that lived through it."""
    listener = bed.agent("b").listen(bed.address("b"), 5910)
    silent = bed.agent("x").connect(bed.address("b"), 5910)
    until(lambda: bed.flow_totals(2)["handshake"] == 1, "it is looked at", 5)
    worker, since = bed.worker_pid(2), bed.log_size(2)
    os.kill(worker, signal.SIGKILL)
    bed.wait_log(2, since, "taking over", " wires=1 ")
    silent.sendall(TEXT)
    server, peer = listener.accept()
    equal(peer[:2], silent.getsockname()[:2], "the client's address")
    equal(server.recv_exactly(len(TEXT)), TEXT, "what it said")
    listener.close()
    bed.wait_worker(2, worker)
    return silent, server


def drip(address, port, count, data):
    """In an agent: as many connections, a byte of data now and then on each. How many there were after a
    second, the errno each has ended with, and the seconds until the last one had."""
    socks, ended, held, at = [], [], None, 0
    for _ in range(count):
        sock = socket.socket()
        sock.settimeout(20)
        code = sock.connect_ex((address, port))
        try:
            sock.setblocking(False)
            if not code:
                sock.send(data[:1])
        except OSError as error:  # of those beyond the limit, some that soon
            code = errno.ECONNRESET if error.errno == errno.EPIPE else error.errno
        if code:
            ended.append(code)
        else:
            socks.append(sock)
    start = time.monotonic()
    while socks and time.monotonic() - start < 15:
        at += 1
        for sock in list(socks):
            try:
                sock.send(data[at:at + 1])
                sock.recv(1)
                ended.append(0)
            except BlockingIOError:
                continue
            except OSError as error:
                ended.append(errno.ECONNRESET if error.errno == errno.EPIPE else error.errno)
            socks.remove(sock)
            sock.close()
        if held is None and time.monotonic() - start > 1:
            held = len(socks)
        time.sleep(0.1)
    return held, ended, time.monotonic() - start


@case("permissive: the worker is killed while nobody has spoken yet: neither end notices", mesh=True)
def killed_silent(bed):
    with permissive(bed):
        for first in (0, 1):
            ends = pair(bed, 6, "x")
            until(lambda: bed.flow_totals(2)["established"] == 1, "it is relayed", 5)
            bed.kill_worker(2)
            ends[first].sendall(TEXT)
            equal(ends[not first].recv_exactly(len(TEXT)), TEXT, "the first words")
            talk(*ends, TEXT)
            for end in ends:
                end.close()


@case("permissive: relays are byte-exact while the worker is killed again and again, and across an upgrade", mesh=True,
      timeout=300)
def survives(bed):
    with permissive(bed):
        size, count = 8 << 20, bed.part(25)
        with Traffic(bed, ROUTES, 6, 16384) as traffic:
            ends = pair(bed, 4, "x")
            equal(bed.flow_totals(2)["established"], traffic.total + 1, "relays")
            data = [os.urandom(size) for _ in ends]
            with Killer(bed, nodes=(2,), count=count, seed=int(time.time())) as killer:
                sent = [end.start("sendall", part) for end, part in zip(ends, data)]
                got = [end.start("recv_exactly", size) for end in ends]
                for end, other, number, came in zip(ends, reversed(data), sent, got):
                    equal(hashlib.sha256(end.agent.result(came)).digest(), hashlib.sha256(other).digest(), "SHA-256")
                    end.agent.result(number)
                killed = killer.wait(count + 20)
            for end in ends:
                end.close()
            equal(killed[0]["killed"], count, "workers killed")
            bed.wait_worker(2)
            bed.testbed("upgrade", "2")
            open_up(bed)  # the configuration says strict
            said = traffic.stop_whole()
        connect_and_talk(bed.agent("x"), bed.agent("b"), bed.address("b"), 5912, TEXT)
    return f"{said}; {size >> 20} MiB both ways; killed {killed}"


@case("permissive: keeper and worker are killed together in mid-transfer: both applications are reset", mesh=True)
def both_killed(bed):
    with permissive(bed):
        with Traffic(bed, ROUTES, 2, 16384, patience=15) as traffic:
            silent = pair(bed, 4, "x", port=5913)
            until(lambda: bed.flow_totals(2)["established"] == traffic.total + 1, "all are relayed", 5)
            time.sleep(0.5)
            bed.testbed("kill", "2")
            for found, error in traffic.stop():
                equal({name: found[name] for name in ("ok", *BAD) if found[name]}, {"resets": traffic.total},
                      f"how the connections ended ({error})")
            for end in silent:
                equal(end.recv_to_end(), (b"", errno.ECONNRESET), "one on which nobody had spoken")
        bed.testbed("start", "2")
        bed.wait_worker(2)
    connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), 5914, TEXT)


@case("permissive: nothing of all that is left: descriptors, slots, map elements", mesh=True)
def nothing_left(bed):
    with permissive(bed):
        connect_and_talk(bed.agent("x"), bed.agent("b"), bed.address("b"), 5915, TEXT)
    bed.close_sockets()
    balance.settle(bed, _held["before"])
