# SPDX-License-Identifier: Apache-2.0
"""What is meshed, what is left alone, and what is refused, with its reason on both sides."""
import errno
import ssl

from lib.tap import case, check, contains, equal, not_reached, until

from .streams import REFUSED, refusal

STRANGER = b"GET /stranger HTTP/1.0\r\nUser-Agent: STRANGER-REQUEST\r\n\r\n"
EXCLUDED_TEXT = b"TEXT-ON-THE-EXCLUDED-PORT"


def talk(client, server, text):
    """One line each way: the connection works."""
    client.sendall(text)
    equal(server.recv_exactly(len(text)), text, "what the server got")
    server.sendall(text)
    equal(client.recv_exactly(len(text)), text, "what the client got")


def connect_and_talk(near, far, address, port, text):
    listener = far.listen(address, port)
    client = near.connect(address, port)
    server, peer = listener.accept()
    listener.close()
    talk(client, server, text)
    equal(client.getsockname()[:2], peer[:2], "the client's address, here and there")
    client.close()
    server.close()


@case("loopback and the pod's own addresses are left alone")
def loopback(bed):
    agent = bed.agent("a")
    before = None if bed.plain else bed.counters(1)
    for address in ("127.0.0.1", "127.8.7.6", "::1", bed.address("a"), bed.address("a", 6)):
        connect_and_talk(agent, agent, address, 5800, b"KMTLS-PLAINTEXT-MARKER")
    if before:
        after = bed.counters(1)
        for name in ("intercepted", "steered", "established"):
            equal(after.get(name, 0), before.get(name, 0), f"counter {name}")


@case("the excluded port stays plaintext, between pods and with a stranger")
def excluded(bed):
    port = int(bed.env["excluded_port"])
    before = None if bed.plain else (bed.counters(1), bed.counters(2))
    for version in (4, 6):
        for near in ("a", "x"):
            connect_and_talk(bed.agent(near), bed.agent("b"), bed.address("b", version), port, EXCLUDED_TEXT)
    connect_and_talk(bed.agent("a"), bed.agent("x"), bed.address("x"), port, EXCLUDED_TEXT)
    if before:
        for node in (1, 2):
            equal(bed.counter(node, "established"), before[node - 1].get("established", 0), "established flows")


@case("UDP is left alone, to a pod and to a stranger")
def udp(bed):
    for version, family in ((4, 2), (6, 10)):
        for place in ("b", "x"):
            server = bed.agent(place).socket(family, 2)
            server.bind((bed.address(place, version), 5900))
            client = bed.agent("a").socket(family, 2)
            client.connect((bed.address(place, version), 5900))
            client.send(b"UDP-IN-THE-CLEAR")
            data, address = server.recvfrom(100)
            equal((data, address[:2]), (b"UDP-IN-THE-CLEAR", client.getsockname()[:2]), "what arrives")
            server.sendto(b"answer", address)
            equal(client.recv(100), b"answer", "the answer")
            server.close()


@case("a stranger's plaintext is refused", mesh=True)
def stranger(bed):
    served = bed.agent("b").listen("", 5801)
    for version in (4, 6):
        since = bed.log_size(2)
        before = bed.counter(2, "not-mesh")
        client = bed.agent("x").socket(10 if version == 6 else 2)
        code = client.connect_ex((bed.address("b", version), 5001 if version == 6 else 5801))
        if not code:
            client.sendall(STRANGER)
            answer, code = client.recv_to_end()
            # The daemon may say so with a TLS alert; no byte of an application.
            check(len(answer) <= 7 and answer[:1] in (b"", b"\x15"), f"the stranger is answered {answer!r}")
        check(code in (0, *REFUSED), f"the stranger's connection ends with errno {code}")
        line = bed.wait_log(2, since, "reason=not-mesh")
        contains(line, bed.address("x", version), "the log line names the stranger")
        until(lambda: bed.counter(2, "not-mesh") == before + 1, "not-mesh is counted once", 5)
    not_reached(served)


def tls_attempt(address, port):
    """In an agent: TLS without a certificate and without our ALPN."""
    import socket

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((address, port), 20) as raw:
            with context.wrap_socket(raw) as sock:
                sock.sendall(b"x")
                return f"accepted, answered {sock.recv(100)!r}"
    except (ssl.SSLError, OSError) as error:
        return f"refused: {error}"


@case("a stranger's own TLS is refused", mesh=True)
def stranger_tls(bed):
    since = bed.log_size(2)
    before = bed.counter(2, "not-mesh")
    contains(bed.agent("x").call(tls_attempt, bed.address("b"), 5001), "refused", "TLS without our ALPN")
    bed.wait_log(2, since, "reason=not-mesh")
    equal(bed.counter(2, "not-mesh"), before + 1, "counter not-mesh")


@case("strict: a pod cannot connect to a stranger (EPERM)", mesh=True)
def to_stranger(bed):
    listeners = [bed.agent("x").listen(bed.address("x", version), 5802) for version in (4, 6)]
    for version in (4, 6):
        before = bed.counter(1, "no-peer")
        client = bed.agent("a").socket(10 if version == 6 else 2)
        equal(client.connect_ex((bed.address("x", version), 5802)), errno.EPERM, f"connect over IPv{version}")
        equal(bed.counter(1, "no-peer"), before + 1, "counter no-peer")
    client = bed.agent("a").socket(10)
    equal(client.connect_ex(("::ffff:" + bed.address("x"), 5802)), errno.EPERM, "connect to ::ffff:x")
    for listener in listeners:
        not_reached(listener, "the connection got through")


@case("a BYPASS peer is reached in plaintext, on its ports only", mesh=True)
def bypass(bed):
    text = b"TO-A-BYPASS-PEER"
    prefix = bed.address("x") + "/32"
    bed.kmtls(1, "peer", "add", prefix, "--bypass", "--port", "5803")
    try:
        connect_and_talk(bed.agent("a"), bed.agent("x"), bed.address("x"), 5803, text)
        connect_and_talk(bed.agent("x"), bed.agent("a"), bed.address("a"), 5803, text)
        client = bed.agent("a").socket()
        equal(client.connect_ex((bed.address("x"), 5804)), errno.EPERM, "connect to a port that is not listed")
        listed = [peer for peer in bed.kmtls(1, "peer", "list") if bed.address("x") in str(peer)]
        equal(len(listed), 1, "entries of x in peer list")
    finally:
        bed.kmtls(1, "peer", "del", prefix)
    client = bed.agent("a").socket()
    equal(client.connect_ex((bed.address("x"), 5803)), errno.EPERM, "connect after peer del")


def refusals(bed, node):
    counters = bed.counters(node)
    return sum(counters.get(name, 0) for name in ("refused-by-peer", "refused-certificate", "refused-denied"))


@case("a server that is not who the peers map says is refused", mesh=True)
def wrong_peer(bed):
    bed.agent("b")
    for version, length in ((4, 32), (6, 128)):
        prefix = f"{bed.address('b', version)}/{length}"
        since = {node: bed.log_size(node) for node in (1, 2)}
        before = bed.counter(1, "wrong-peer"), refusals(bed, 2), bed.counter(2, "established")
        listener = bed.agent("b").listen(bed.address("b", version), 5805)
        bed.kmtls(1, "peer", "del", prefix)
        bed.kmtls(1, "peer", "add", prefix, "--id", "spiffe://example.org/ns/default/sa/somebody-else")
        try:
            code, seconds = refusal(bed.agent("a"), bed.address("b", version), 5805)
        finally:
            bed.kmtls(1, "peer", "del", prefix)
            bed.kmtls(1, "peer", "add", prefix, "--id", bed.env["b_id"])
        check(code in REFUSED, f"errno {code}, not ECONNREFUSED or ECONNRESET")
        check(seconds < 5, f"it took {seconds:.1f} s")
        line = bed.wait_log(1, since[1], "reason=wrong-peer")
        contains(line, bed.env["b_id"], "the log names who answered")
        bed.wait_log(2, since[2], "reason=refused-")
        equal(bed.counter(1, "wrong-peer"), before[0] + 1, "counter wrong-peer of node 1")
        until(lambda: refusals(bed, 2) == before[1] + 1, "the refusal is counted once on node 2", 5)
        equal(bed.counter(2, "established"), before[2], "established flows of node 2")
        not_reached(listener)
        connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b", version), 5806, b"KMTLS-PLAINTEXT-MARKER")
