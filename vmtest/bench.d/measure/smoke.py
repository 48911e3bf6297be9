# SPDX-License-Identifier: Apache-2.0
"""Whether an arm is what it says: it moves the right bytes, and what passes the wire is mutual TLS 1.3 with the
suite that was asked for. Facts, no judgement: selftests/vm/cases/bench.py judges."""
import contextlib
import json
import signal
import socket
import ssl
import struct
import subprocess

from .bed import ADDRESS, PORTS, until

MARKER = "KMTLS-PLAINTEXT-MARKER"
HEADER = 64
OP_ECHO = ord("E")
PATIENCE = 5  # seconds in which a refusal is there


class Capture:
    """All that passes the link, from the moment it is made."""

    def __init__(self, bed):
        self.path, messages = bed.dir + "/wire.pcap", bed.dir + "/tcpdump.log"
        self.bed = bed
        with open(messages, "wb"):
            pass
        self.process = bed.spawn("b", "tcpdump", "-Z", "root", "-n", "-i", "eth0", "-s", "0", "-U", "--immediate-mode",
                                 "-B", "16384", "-w", self.path, group="proxy", output=messages)

        def hears():
            with open(messages, encoding="ascii") as file:
                return "listening on" in file.read()

        until(hears, "tcpdump listens")

    def stop(self):
        """tools/wirecheck's JSON, and the ServerHellos."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        self.process.stdin.close()
        done = subprocess.run([self.bed.tools + "/wirecheck", "-m", MARKER, "-a", ADDRESS["a"], "-a", ADDRESS["b"], self.path],
                              capture_output=True, text=True, timeout=100, check=True)
        with open(self.path, "rb") as file:
            return json.loads(done.stdout), list(server_hellos(file.read()))


def server_hellos(capture):
    """Of all segments that begin with one: version (of the extension), suite, and whether a session is resumed."""
    at = 24
    while at + 16 <= len(capture):
        size = struct.unpack_from("<I", capture, at + 8)[0]
        packet = capture[at + 16:at + 16 + size]
        at += 16 + size
        if len(packet) < 54 or packet[12:14] != b"\x08\x00" or packet[23] != socket.IPPROTO_TCP:
            continue
        tcp = packet[14 + (packet[14] & 15) * 4:]
        data = tcp[(tcp[12] >> 4) * 4:]
        if len(data) > 80 and data[0] == 22 and data[5] == 2:
            yield parse_hello(data[9:])


def parse_hello(hello):
    at = 35 + hello[34]
    suite = struct.unpack_from(">H", hello, at)[0]
    end = at + 5 + struct.unpack_from(">H", hello, at + 3)[0]
    at += 5
    extensions = {}
    while at + 4 <= end:
        kind, size = struct.unpack_from(">HH", hello, at)
        extensions[kind] = hello[at + 4:at + 4 + size]
        at += 4 + size
    return {"tls13": extensions.get(43) == b"\x03\x04", "suite": suite, "resumed": 41 in extensions}


def echo(session, size):
    """size bytes there and back: what benchload says of them."""
    host, port = session.arm.address(PORTS["load"])
    return json.loads(session.bed.run("a", session.bed.tools + "/benchload", "echo", f"{host}:{port}", str(size),
                                      env=session.arm.environment))


def message():
    return struct.pack("<24sB7xQQ16x", MARKER.encode(), OP_ECHO, HEADER, 0)


def knock(inside, port, own=None):
    """A TLS client of our own in a that goes to the wire's port, with the certificate and key in the file own, or with
    none: the application's answer, and the error that came instead. Who has none listens first: what is sent to one that
    has closed already is answered by a reset, which would take the alert with it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["kmtls/1"])
    if own:
        context.load_cert_chain(own)
    with inside("a"):
        raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    raw.settimeout(60)
    try:
        raw.connect((ADDRESS["b"], port))
        with context.wrap_socket(raw) as wrapped:
            if not own:
                wrapped.settimeout(PATIENCE)
                with contextlib.suppress(TimeoutError):
                    return wrapped.recv(HEADER), ""
                wrapped.settimeout(60)
            wrapped.sendall(message())
            return wrapped.recv(HEADER), ""
    except OSError as error:
        return b"", str(error)
    finally:
        raw.close()
