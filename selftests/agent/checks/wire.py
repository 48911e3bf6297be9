# SPDX-License-Identifier: Apache-2.0
"""What no gRPC library would send: frames, headers and messages that break the rules of HTTP/2 or gRPC, and
servers that are slow or silent. Each has its own sentence; none makes the client spin."""
import socket
import struct
import time

from lib.tap import case, check, contains, equal

from support import pki, servers
from support.bed import Workload, until
from support.servers import (ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PUSH_PROMISE, RST_STREAM,
                             SETTINGS, data, frame, headers, literal, message)

AUTHORITY = pki.Authority("example.org")
PREFACE = frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0)


def status(code, text=None, stream=1):
    fields = literal("grpc-status", code) + (literal("grpc-message", text) if text is not None else b"")
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, fields)


def only(code, text=None):
    """Trailers alone, which is how an error begins and ends."""
    fields = literal("grpc-status", code) + (literal("grpc-message", text) if text is not None else b"")
    return headers(flags=END_HEADERS | END_STREAM, more=fields)


def goaway(last, code):
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code))


def reset(code, stream=1):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


HALF = message(b"", length=1000) + b"x" * 500

# What is sent after the request, whether the connection is closed then, what the client says.
RULES = [
    ("HTTP/1.1", b"HTTP/1.1 400 Bad Request\r\n\r\n", False, "not HTTP/2 as it should be"),
    ("garbage", bytes(range(256)) * 8, False, "not HTTP/2 as it should be"),
    ("a frame before SETTINGS", headers(), False, "not HTTP/2 as it should be"),
    ("a frame that is too long", PREFACE + b"\xff\xff\xff\0\0\0\0\0\1", False, "not HTTP/2 as it should be"),
    ("headers that are none", PREFACE + frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), False,
     "not HTTP/2 as it should be"),
    ("a pushed promise", PREFACE + frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + literal(":path", "/")), False,
     "not HTTP/2 as it should be"),
    ("data of no stream", PREFACE + data(b"x", stream=0), False, "not HTTP/2 as it should be"),
    ("closed at once", b"", True, "the agent closed the connection"),
    ("closed after the headers", PREFACE + headers(), True, "the agent closed the connection"),
    ("half a message, then closed", PREFACE + headers() + data(HALF), True, "the agent closed the connection"),
    ("half a message, then the end", PREFACE + headers() + data(HALF, flags=END_STREAM), False,
     "Internal: the stream ends inside a message"),
    ("half a prefix, then status 0", PREFACE + headers() + data(b"\0\0\0") + status("0"), False,
     "Internal: the stream ends inside a message"),
    ("half a message, then status 14", PREFACE + headers() + data(HALF) + status("14", "sorry"), False,
     "Unavailable: sorry"),
    ("no status", PREFACE + headers() + data(b"", flags=END_STREAM), False,
     "Unknown: the stream ends without grpc-status"),
    ("a compressed message", PREFACE + headers() + data(message(b"abc", compressed=1)), False,
     "Internal: a message is compressed, which was not offered"),
    ("a flag of 7", PREFACE + headers() + data(message(b"abc", compressed=7)), False,
     "Internal: a message begins with 7 where 0 or 1 must be"),
    ("a message of 4 GiB", PREFACE + headers() + data(message(b"", length=2 ** 32 - 1)), False,
     "ResourceExhausted: a message of 4294967295 bytes: more than 4194304"),
    ("HTML", PREFACE + headers(content_type="text/html"), False,
     "Unknown: the answer's content-type is not application/grpc"),
    ("application/grpcfoo", PREFACE + headers(content_type="application/grpcfoo"), False,
     "Unknown: the answer's content-type is not application/grpc"),
    ("404", PREFACE + headers(status="404", content_type="text/html"), False,
     "Unimplemented: the answer has HTTP status 404"),
    ("503", PREFACE + headers(status="503"), False, "Unavailable: the answer has HTTP status 503"),
    ("a status of no meaning", PREFACE + only("99", "what"), False, "Unknown: what"),
    ("a status that is no number", PREFACE + only("x", "what"), False, "Unknown: what"),
    ("a percent-encoded text", PREFACE + only("9", "a%20b%2Fc%zz%4"), False, "FailedPrecondition: a b/c%zz%4"),
    ("grpc-status among the first headers", PREFACE + headers(more=literal("grpc-status", "7"))
     + data(b"", flags=END_STREAM), False, "Unknown: the stream ends without grpc-status"),
    ("20 KB of headers", PREFACE + headers(flags=0, more=literal("x-a", "a" * 9000)) +
     frame(servers.CONTINUATION, END_HEADERS, 1, literal("x-b", "b" * 9000)), False,
     "ResourceExhausted: the headers are longer than 16384 bytes"),
    ("RST_STREAM REFUSED_STREAM", PREFACE + reset(7), False, "Unavailable: the stream was reset (REFUSED_STREAM)"),
    ("RST_STREAM CANCEL", PREFACE + headers() + reset(8), False, "Cancelled: the stream was reset (CANCEL)"),
    ("RST_STREAM INTERNAL_ERROR", PREFACE + headers() + reset(2), False,
     "Internal: the stream was reset (INTERNAL_ERROR)"),
    ("GOAWAY", PREFACE + headers() + goaway(3, 0), False, "the agent takes its leave (NO_ERROR)"),
    ("GOAWAY ENHANCE_YOUR_CALM", PREFACE + goaway(0, 11), False, "the agent takes its leave (ENHANCE_YOUR_CALM)"),
]


def answers(current):
    """Talks as an agent that sends current[0] = (bytes, close) after the first bytes of the client."""

    def talk(connection):
        connection.recv(65536)
        # What the client will complain about came in one piece with what it needs to understand it.
        payload, close = current[0]
        connection.sendall(payload)
        if not close:
            servers.listen_until_closed(connection)

    return talk


@case("frames, headers and messages that break a rule: each its own sentence, and tries go on", timeout=180)
def rules(bed):
    has = Workload(AUTHORITY)
    good = (PREFACE + headers() + data(message(has.answer.SerializeToString())), True)
    current = [good]
    agent = bed.raw(answers(current))
    client = bed.client("min=10", "max=20", "refused=20")
    client.serial(has.serial)
    for what, payload, close, sentence in RULES:
        current[0] = (payload, close)
        seen = agent.accepted
        until(lambda n=seen: agent.accepted >= n + 2, f"{what}: two more tries")
        view = client.refuses(sentence)
        check(view["state"] in ("waiting", "refused", "connecting"), f"{what}: {view['state']}")
        equal(client.ask("get")["identity"]["serial"], has.serial, f"{what}: the SVID that stays")
    current[0] = good
    before = len(client.changes())
    until(lambda: len(client.changes()) > before, "a good answer at last")
    bed.finish()
    return f"{len(RULES)} rules, {agent.accepted} connections"


@case("an answer byte by byte, in frames of one byte, padded, after an interim response")
def pieces(bed):
    has = Workload(AUTHORITY)
    text = message(has.answer.SerializeToString())
    interim = frame(HEADERS, END_HEADERS, 1, literal(":status", "103"))
    padded = b"".join(frame(DATA, 8, 1, b"\x05" + text[i:i + 1] + b"\0" * 5) for i in range(len(text)))
    whole = PREFACE + interim + headers() + padded

    def talk(connection):
        connection.recv(65536)
        for i in range(len(whole)):
            connection.sendall(whole[i:i + 1])
        servers.listen_until_closed(connection)

    bed.raw(talk)
    client = bed.client()
    client.serial(has.serial, 30)
    equal(client.look()["tries"], 1, "connections")
    bed.finish()


@case("two messages in one frame, an empty message between frames of none")
def together(bed):
    one, two = Workload(AUTHORITY), Workload(AUTHORITY)
    both = message(one.answer.SerializeToString()) + message(two.answer.SerializeToString())
    payload = PREFACE + headers() + data(b"") + data(both) + data(b"")
    bed.raw(answers([(payload, False)]))
    client = bed.client()
    client.serial(one.serial)
    client.serial(two.serial)
    equal([i["serial"] for i in client.changes()], [one.serial, two.serial], "the order")
    bed.finish()


@case("a server that never answers: the deadline; also one that does not speak at all")
def silent(bed):
    def talk(connection):
        connection.recv(65536)
        connection.sendall(PREFACE)
        servers.listen_until_closed(connection)

    bed.raw(talk)
    begin = time.monotonic()
    client = bed.client(deadline=700)
    client.refuses("DeadlineExceeded: no answer for 700 ms")
    took = time.monotonic() - begin
    check(0.65 < took < 2, f"after {took:.2f} s")
    bed.finish()
    bed.servers.pop().stop()
    # connect() succeeds, accept() does not come.
    import os
    os.unlink(bed.path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(bed.path)
    listener.listen(16)
    client = bed.client(deadline=400)
    client.refuses("DeadlineExceeded: no answer for 400 ms")
    bed.finish()
    listener.close()


@case("a slow drip: an answer that has begun must be there within the deadline")
def drip(bed):
    text = message(Workload(AUTHORITY).answer.SerializeToString())

    def talk(connection):
        connection.recv(65536)
        connection.sendall(PREFACE + headers())
        for i in range(len(text)):
            connection.sendall(data(text[i:i + 1]))
            time.sleep(0.05)

    bed.raw(talk)
    client = bed.client(deadline=700)
    client.refuses("DeadlineExceeded: half an answer for 700 ms")
    bed.finish()


@case("after the first answer silence is no fault; a server that does not answer a ping is")
def ping(bed):
    has = Workload(AUTHORITY)
    pings = []
    deaf = []

    def talk(connection):
        connection.recv(65536)
        connection.sendall(PREFACE + headers() + data(message(has.answer.SerializeToString())))
        while True:
            got = connection.recv(65536)
            if not got:
                return
            at = got.find(b"\0\0\x08\x06\0\0\0\0\0")
            if at >= 0:
                pings.append(time.monotonic())
                if not deaf:
                    connection.sendall(frame(PING, ACK, 0, got[at + 9:at + 17]))

    agent = bed.raw(talk)
    client = bed.client(deadline=300, ping=400)
    client.serial(has.serial)
    until(lambda: len(pings) >= 4, "four pings")
    equal(agent.accepted, 1, "connections")
    equal(client.look()["state"], "streaming", "the state")
    deaf.append(True)
    until(lambda: agent.accepted >= 2, "another connection", 5)
    until(lambda: any("the agent is silent: no answer to a ping for 300 ms" in line for line in client.log),
          "a line that says so")
    contains("\n".join(client.log), "identity source does not answer", "the log")
    bed.finish()


@case("idle: a stream without news takes no processor")
def idle(bed):
    has = Workload(AUTHORITY)
    bed.workload_agent(lambda stream: stream.put(has.answer))
    client = bed.client()
    client.serial(has.serial)
    before = client.ask("cpu")["ms"]
    time.sleep(3)
    used = client.ask("cpu")["ms"] - before
    check(used < 50, f"{used} ms of processor in 3 s")
    bed.finish()
    return f"{used} ms of processor in 3 s"
