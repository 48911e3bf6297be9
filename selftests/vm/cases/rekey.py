# SPDX-License-Identifier: Apache-2.0
"""Keys that are replaced under traffic, and what happens where they cannot be."""
import ctypes
import errno
import hashlib
import os
import random
import re
import socket
import subprocess
import time

from lib import agent as agents
from lib.bed import MARKER
from lib.tap import case, check, contains, equal, until

from lib.traffic import Killer

from .streams import pair

MIB = 1 << 20
BOTH_ALPN = b"\x0dkmtls/1+rekey\x07kmtls/1"
PLAIN_ALPN = b"\x07kmtls/1"
KEYS = ("rekey", "key_limit", "key_limit_action", "prefer_chacha20")


def kernel_can():
    """What the daemon must find out by itself: keys can be set again since 6.14."""
    return tuple(map(int, re.match(r"(\d+)\.(\d+)", os.uname().release).groups())) >= (6, 14)


def settings(bed, *nodes, **values):
    """Restarts the nodes with these settings, and the defaults of all others."""
    for node in nodes:
        for key in KEYS:
            bed.configure(node, key, values.get(key))
        bed.testbed("restart", str(node))


# --- in the agents ------------------------------------------------------------------------------------


def send_stream(handle, size, seed):
    """Sends size bytes; their SHA-256 and the errno, if the stream breaks."""
    sock, digest, sent = agents._sockets[handle], hashlib.sha256(), 0
    block = MARKER.encode() + random.Random(seed).randbytes(256 * 1024 - len(MARKER))
    while sent < size:
        part = block[:size - sent]
        try:
            sock.sendall(part)
        except OSError as error:
            return None, error.errno
        digest.update(part)
        sent += len(part)
    return digest.hexdigest(), 0


def receive_stream(handle, size):
    """At most size bytes: how many, their SHA-256, and the errno or 0."""
    sock, digest, got = agents._sockets[handle], hashlib.sha256(), 0
    buffer = memoryview(bytearray(1 << 18))
    while got < size:
        try:
            count = sock.recv_into(buffer[:min(len(buffer), size - got)])
        except OSError as error:
            return got, digest.hexdigest(), error.errno
        if not count:
            break
        digest.update(buffer[:count])
        got += count
    return got, digest.hexdigest(), 0


def prefix_digest(size, seed):
    """What receive_stream() has to say of the first size bytes of send_stream()."""
    digest = hashlib.sha256()
    block = MARKER.encode() + random.Random(seed).randbytes(256 * 1024 - len(MARKER))
    while size:
        part = block[:size]
        digest.update(part)
        size -= len(part)
    return digest.hexdigest()


def both_ways(client, server, size):
    """size bytes each way at the same time, compared at both ends."""
    jobs = [(end, other, end.agent.start(send_stream, end.handle, size, seed),
             other.agent.start(receive_stream, other.handle, size))
            for seed, (end, other) in enumerate(((client, server), (server, client)))]
    for end, other, sending, receiving in jobs:
        sent, code = end.agent.result(sending)
        equal(code, 0, "errno of the sender")
        equal(other.agent.result(receiving), (size, sent, 0), "bytes, SHA-256 and errno at the receiver")


def flow(bed, node, address, port):
    """The one established flow of the node with the server's address and port."""
    found = [item for item in bed.flows(node) if item["state"] == "established" and
             any((item[side]["address"], item[side]["port"]) == (address, port) for side in ("self", "peer"))]
    equal(len(found), 1, f"flows of node {node} to {address}:{port}")
    return found[0]


# --- between our daemons --------------------------------------------------------------------------------


@case("status says whether keys can be replaced, as the kernel can", mesh=True)
def status(bed):
    for node in (1, 2):
        equal(bed.kmtls(node, "status")["rekey"], kernel_can(), f"rekey in status of node {node}")


@case("both ways at once, many keys long: bytes equal, keys replaced on both sides, no plaintext", mesh=True, timeout=300)
def under_traffic(bed):
    limit, size = 4, 12 * MIB * bed.scale
    settings(bed, 1, 2, key_limit=f"{limit}MiB")
    capture, said = bed.dir + "/rekey.pcap", []
    if bed.capturing:
        bed.stop_capture()
    if bed.scale == 1:
        bed.testbed("capture", capture)
    for version, port in ((4, 5940), (6, 5941)):
        since = bed.log_size(1), bed.log_size(2)
        near = [bed.counter(node, "key-limit-near") for node in (1, 2)]
        client, server = pair(bed, version, port=port)
        both_ways(client, server, size)
        for node in (1, 2):
            rekeys = flow(bed, node, bed.address("b", version), port)["rekeys"]
            warned = bed.counter(node, "key-limit-near") - near[node - 1]
            if kernel_can():
                # Own key and the peer's, each at a quarter; the last part may be under way.
                least, most = 2 * (size // MIB) * 4 // limit // 2, 2 * (size // MIB) * 4 // limit + 4
                check(least <= rekeys <= most, f"IPv{version}, node {node}: {rekeys} keys, not {least} to {most}")
                equal(warned, 0, f"IPv{version}, node {node}: warnings")
            else:
                equal((rekeys, warned), (0, 2), f"IPv{version}, node {node}: keys replaced, warnings")
                equal(bed.log(node, since[node - 1]).count("key limit near"), 2, "lines in the log")
            said.append(rekeys)
        client.close()
        equal(server.recv_to_end(), (b"", 0), "the end")
        server.close()
    if bed.scale == 1:
        bed.testbed("capture", "--stop")
        seen = bed.wirecheck(capture, [MARKER])
        equal((seen["found"][MARKER], seen["plaintext"], seen["gaps"]), (0, 0, 0), "plaintext, gaps on the wire")
        check(seen["tls"] >= 2, f"connections on the wire: {seen}")
        os.unlink(capture)
    return f"keys replaced: {said}"


@case("one side without rekey: far beyond the limit without a reset, one warning a direction", mesh=True, timeout=900)
def one_side_cannot(bed):
    limit, size = (64, 1024) if bed.scale > 1 else (8, 20)  # MiB; size: each way
    settings(bed, 1, key_limit=f"{limit}MiB")
    settings(bed, 2, key_limit=f"{limit}MiB", rekey="off")
    equal(bed.kmtls(2, "status")["rekey"], False, "rekey in status")
    since = bed.log_size(1), bed.log_size(2)
    before = [(bed.counter(node, "rekeyed"), bed.counter(node, "key-limit-near")) for node in (1, 2)]
    client, server = pair(bed, 4, port=5942)
    start = time.monotonic()
    both_ways(client, server, size * MIB)
    took = time.monotonic() - start
    for node in (1, 2):
        equal(flow(bed, node, bed.address("b"), 5942)["rekeys"], 0, f"keys replaced by node {node}")
        equal((bed.counter(node, "rekeyed"), bed.counter(node, "key-limit-near")),
              (before[node - 1][0], before[node - 1][1] + 2), f"counters of node {node}")
        equal(bed.log(node, since[node - 1]).count("key limit near"), 2, f"warnings in the log of node {node}")
    client.close()
    equal(server.recv_to_end(), (b"", 0), "the end")
    server.close()
    return f"2 x {size} MiB in {took:.0f} s"


@case("key_limit_action close: a reset at the limit, what was taken is delivered, never a clean end", mesh=True)
def closed_at_limit(bed):
    settings(bed, 1, key_limit="4MiB", rekey="off", key_limit_action="close")
    settings(bed, 2)
    for version, port in ((4, 5943), (6, 5944)):
        since = bed.log_size(1), bed.log_size(2)
        before = bed.counter(1, "key-limit")
        client, server = pair(bed, version, port=port)
        sending = client.agent.start(send_stream, client.handle, 64 * MIB, 7)
        got, digest, code = server.agent.call(receive_stream, server.handle, 64 * MIB)
        equal(code, errno.ECONNRESET, "how it ends at the receiver")
        equal(client.agent.result(sending)[0], None, "the sender's whole stream")
        check(3 * MIB <= got <= 4 * MIB, f"{got} bytes arrived with a limit of {4 * MIB}")
        equal(digest, prefix_digest(got, 7), "SHA-256 of what arrived, as a part of what was sent")
        bed.wait_log(1, since[0], "reason=key-limit")
        bed.wait_log(2, since[1], "reason=peer-alert")
        equal(bed.counter(1, "key-limit"), before + 1, "counter key-limit")
        client.close()
        server.close()


@case("prefer_chacha20: its keys have no limit, nothing is warned of", mesh=True, kernel="6.12")
def chacha20(bed):
    for node, other in ((1, 2), (2, 1)):
        settings(bed, node, key_limit="1MiB", rekey="off", prefer_chacha20="true")
        settings(bed, other, key_limit="1MiB", rekey="off")
        before = bed.counter(1, "key-limit-near")
        client, server = pair(bed, 4, port=5945)
        both_ways(client, server, 2 * MIB)
        equal(flow(bed, 1, bed.address("b"), 5945)["cipher"], "TLS_CHACHA20_POLY1305_SHA256", "the cipher")
        equal(bed.counter(1, "key-limit-near"), before, "warnings")
        client.close()
        server.close()


@case("workers are killed while keys are replaced: bytes equal, no key lost", mesh=True, timeout=400)
def killed_workers(bed):
    size, count = 8 * MIB * bed.scale, bed.part(30)
    settings(bed, 1, 2, key_limit="1MiB")
    failed = [bed.counter(node, "rekey-failed") for node in (1, 2)]
    streams = [pair(bed, version, port=port) for version, port in ((4, 5946), (6, 5947))]
    with Killer(bed, count=count, seed=int(time.time())) as killer:
        for client, server in streams:
            both_ways(client, server, size)
        killed = killer.wait(count + 60)
    for node in (1, 2):
        bed.wait_worker(node)
        equal(bed.counter(node, "rekey-failed"), failed[node - 1], f"keys lost by node {node}")
    rekeys = [flow(bed, node, bed.address("b", version), port)["rekeys"]
              for version, port in ((4, 5946), (6, 5947)) for node in (1, 2)]
    if kernel_can():
        # A count may be lost with the worker that was about to write it.
        check(min(rekeys) >= 2 * (size // MIB) * 4 // 2, f"keys replaced: {rekeys}")
    else:
        equal(rekeys, [0] * 4, "keys replaced")
    for client, server in streams:
        both_ways(client, server, MIB)
        client.close()
        equal(server.recv_to_end(), (b"", 0), "the end")
        server.close()
    return f"keys replaced: {rekeys}; killed {killed}"


# --- with other implementations ---------------------------------------------------------------------------


def certificate(bed):
    path = bed.dir + "/rekey.pem"
    if not os.path.exists(path):
        subprocess.run([bed.tools + "/certify", f"{bed.env['state']}/root.pem", "spiffe://example.org/foreign", "-3600",
                        "7200", path], check=True, timeout=30)
    return path


class Stranger:
    """A program in pod x that speaks TLS to an application in pod b."""

    def __init__(self, bed, port, *command):
        self.output = f"{bed.dir}/stranger-{port}.log"
        listener = bed.agent("b").listen(bed.address("b"), port)
        self.process = bed.spawn("x", *command, output=self.output)
        self.server, _ = listener.accept()
        listener.close()

    def say(self, text):
        """A line of input, alone: the programs look at what one read() brings."""
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        time.sleep(0.5)

    def read(self):
        with open(self.output, encoding="ascii", errors="replace") as file:
            return file.read()

    def talk(self, text):
        self.say(text)
        equal(self.server.recv_exactly(len(text) + 1), text.encode() + b"\n", "what the application got")
        self.server.sendall(f"answer to {text}\n".encode())
        until(lambda: f"answer to {text}\n" in self.read(), f"the answer to {text} arrives")

    def end(self):
        self.process.stdin.close()
        equal(self.server.recv_to_end(), (b"", 0), "the end at the application")
        self.server.close()
        self.process.wait(20)


def s_client(bed, port, alpn):
    pem = certificate(bed)
    return Stranger(bed, port, "openssl", "s_client", "-connect", bed.at("b", port), "-tls1_3", "-cert", pem, "-key",
                    pem, "-CAfile", f"{bed.env['state']}/root.pem", "-alpn", alpn)


def gnutls_cli(bed, port, alpn):
    pem = certificate(bed)
    words = [word for name in alpn.split(",") for word in ("--alpn", name)]
    return Stranger(bed, port, "gnutls-cli", "--inline-commands", "--no-ca-verification", "--x509certfile", pem,
                    "--x509keyfile", pem, "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.3", *words, "-p", str(port),
                    bed.address("b"))


def count_commands(bed, stranger, port, commands, peers, ours):
    """Talks, and gives the commands in between; how many keys node 2 has replaced after each."""
    stranger.talk("first")
    before = 0
    for command in commands:
        stranger.say(command)
        stranger.talk(f"after {command[-3:].strip('^')}")
        replaced = flow(bed, 2, bed.address("b"), port)["rekeys"]
        equal(replaced - before, peers + ours[command], f"keys replaced after {command}")
        before = replaced
    stranger.talk("last")
    stranger.end()


@case("openssl s_client: k and K are followed, K is answered", mesh=True)
def openssl(bed):
    settings(bed, 1, 2)
    stranger = s_client(bed, 5950, "kmtls/1+rekey,kmtls/1")
    if kernel_can():
        # k: its own key. K: its own and ours.
        count_commands(bed, stranger, 5950, ("k", "K", "k", "k", "K", "K"), 1, {"k": 0, "K": 1})
        contains(stranger.read(), "KEYUPDATE", "what s_client says")
    else:
        foreign_update(bed, stranger, "K")


@case("gnutls-cli: rekey1 and rekey are followed, rekey is answered", mesh=True)
def gnutls(bed):
    settings(bed, 2)
    stranger = gnutls_cli(bed, 5951, "kmtls/1+rekey,kmtls/1")
    if kernel_can():
        count_commands(bed, stranger, 5951, ("^rekey1^", "^rekey^", "^rekey1^", "^rekey^"), 1, {"^rekey1^": 0, "^rekey^": 1})
        contains(stranger.read(), "Rekey was completed", "what gnutls-cli says")
    else:
        foreign_update(bed, stranger, "^rekey^")


def foreign_update(bed, stranger, command):
    """A KeyUpdate where it cannot be followed: a reset at the application, with a reason."""
    since, before = bed.log_size(2), bed.counter(2, "peer-rekeyed")
    stranger.talk("first")
    waiting = stranger.server.start("recv_to_end")
    stranger.say(command)
    equal(stranger.server.agent.result(waiting), (b"", errno.ECONNRESET), "how it ends at the application")
    stranger.server.close()
    bed.wait_log(2, since, "reason=peer-rekeyed")
    equal(bed.counter(2, "peer-rekeyed"), before + 1, "counter peer-rekeyed")
    until(lambda: stranger.process.poll() is not None, "the stranger's connection is reset")


@case("a KeyUpdate of a peer that was told not to: a reset on both sides, peer-rekeyed", mesh=True)
def not_agreed(bed):
    settings(bed, 2)
    foreign_update(bed, s_client(bed, 5952, "kmtls/1"), "k")
    settings(bed, 2, rekey="off")
    foreign_update(bed, s_client(bed, 5953, "kmtls/1+rekey,kmtls/1"), "K")
    settings(bed, 2)


# --- OpenSSL by hand: what no program does --------------------------------------------------------------


class Tls:
    """libssl without anything in between. In the agent."""

    def __init__(self, address, port, pem, alpn):
        self.lib = lib = ctypes.CDLL("libssl.so.3")
        for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
            getattr(lib, name).restype = ctypes.c_void_p
        context = ctypes.c_void_p(lib.SSL_CTX_new(ctypes.c_void_p(lib.TLS_client_method())))
        for function in (lib.SSL_CTX_use_certificate_file, lib.SSL_CTX_use_PrivateKey_file):
            assert function(context, pem.encode(), 1) == 1
        assert lib.SSL_CTX_set_alpn_protos(context, alpn, len(alpn)) == 0
        self.socket = socket.create_connection((address, port), 20)
        self.socket.settimeout(None)
        self.ssl = ctypes.c_void_p(lib.SSL_new(context))
        lib.SSL_set_fd(self.ssl, self.socket.fileno())
        assert lib.SSL_connect(self.ssl) == 1

    def update(self, ask):
        assert self.lib.SSL_key_update(self.ssl, ctypes.c_int(1 if ask else 0)) == 1
        return self.lib.SSL_do_handshake(self.ssl) == 1

    def write(self, data):
        return self.lib.SSL_write(self.ssl, data, len(data)) == len(data)

    def read(self, size):
        data = ctypes.create_string_buffer(size)
        got = self.lib.SSL_read(self.ssl, data, size)
        return data.raw[:max(got, 0)]


def update_storm(address, port, pem, count, ask):
    """count KeyUpdates and nothing else; true if all could be sent and the connection still works."""
    tls = Tls(address, port, pem, BOTH_ALPN)
    tls.write(b"x")
    for _ in range(count):
        if not tls.update(ask):
            return False
        if ask is None:
            time.sleep(0.1)
    return tls.write(b"after") and tls.read(8) == b"answered"


def busy_updates(address, port, pem, rounds, size):
    """Data with a request to rekey in front of each piece, while more of it comes back; how much did."""
    tls = Tls(address, port, pem, BOTH_ALPN)
    piece, got = b"k" * size, 0
    for sent in range(1, rounds + 1):
        if not tls.update(True) or not tls.write(piece):
            return -1
        # Not more on its way than sockets can hold: nobody else reads here.
        while got < sent * size - (MIB if sent < rounds else 0):
            data = tls.read(65536)
            if not data:
                return got
            got += len(data)
    return got


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        words = file.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def echo(handle, size):
    """In the agent of b: size bytes back as they come."""
    sock, got = agents._sockets[handle], 0
    while got < size:
        data = sock.recv(65536)
        if not data:
            break
        got += len(data)
        sock.sendall(data)
    return got


@case("a KeyUpdate storm ends the flow and nothing else", mesh=True)
def storm(bed):
    if not kernel_can():
        return "the first KeyUpdate ends it: see the others"
    settings(bed, 2)
    listener = bed.agent("b").listen(bed.address("b"), 5955)
    other, other_server = pair(bed, 4, "a", "d", 5956)
    for ask in (False, True):
        since, before = bed.log_size(2), bed.counter(2, "rekey-storm")
        busy = cpu_seconds(bed.daemon_pid(2))
        storming = bed.agent("x").start(update_storm, bed.address("b"), 5955, certificate(bed), 2000, ask)
        server, _ = listener.accept()
        equal(server.recv_exactly(1), b"x", "before the storm")
        equal(server.recv_to_end(), (b"", errno.ECONNRESET), "how it ends at the application")
        equal(bed.agent("x").result(storming), False, "the storm was let through")
        server.close()
        bed.wait_log(2, since, "reason=rekey-storm")
        equal(bed.counter(2, "rekey-storm"), before + 1, "counter rekey-storm")
        both_ways(other, other_server, 65536)
        settled = cpu_seconds(bed.daemon_pid(2))
        time.sleep(2)
        idle = cpu_seconds(bed.daemon_pid(2)) - settled
        check(idle < 0.5, f"the daemon is busy for {idle} of 2 s after the storm")
        check(settled - busy < 10, f"the storm cost the daemon {settled - busy} s")
    # Sixteen are no storm; one answer is enough for all that were asked for at once.
    before = bed.counter(2, "rekeyed")
    working = bed.agent("x").start(update_storm, bed.address("b"), 5955, certificate(bed), 12, True)
    server, _ = listener.accept()
    equal(server.recv_exactly(6), b"xafter", "around twelve updates")
    server.sendall(b"answered")
    equal(bed.agent("x").result(working), True, "twelve updates are let through")
    replaced = bed.counter(2, "rekeyed") - before
    check(13 <= replaced <= 24, f"{replaced} keys replaced, twelve of the peer's and at least one of ours")
    for end in (server, other, other_server, listener):
        end.close()


@case("updates asked for again and again under traffic in both directions, with a limit of our own", mesh=True, timeout=200)
def crossing(bed):
    if not kernel_can():
        return "nothing to replace here"
    settings(bed, 2, key_limit="1MiB")
    rounds, size, before = 60 * bed.scale, 100000, bed.counter(2, "rekeyed")
    listener = bed.agent("b").listen(bed.address("b"), 5957)
    talking = bed.agent("x").start(busy_updates, bed.address("b"), 5957, certificate(bed), rounds, size)
    server, _ = listener.accept()
    echoing = server.agent.start(echo, server.handle, rounds * size)
    equal(bed.agent("x").result(talking), rounds * size, "bytes that came back")
    equal(server.agent.result(echoing), rounds * size, "bytes that arrived")
    replaced = bed.counter(2, "rekeyed") - before
    check(replaced > rounds * 1.2, f"{replaced} keys replaced in {rounds} rounds")
    server.close()
    listener.close()
    settings(bed, 2)
    return f"{replaced} keys replaced"
