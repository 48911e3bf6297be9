# SPDX-License-Identifier: Apache-2.0
"""Listeners that are bound to a device (SO_BINDTODEVICE), and applications that do not answer: the daemon's
own connection to the application, inside the pod."""
import contextlib
import errno
import socket
import time

from lib.tap import case, check, equal, until

from .connect import held_state, settle
from .permissive import TEXT, Counted, permissive
from .policy import talk


def bound_listener(bed, device, port, version, when="before"):
    """when: before listen(), or after. version 46: on [::], for both."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    listener = bed.agent("b").socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if when == "before":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    listener.bind(("0.0.0.0" if version == 4 else "::", port))
    listener.listen(16)
    if when == "after":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    return listener


def exchange(bed, who, listener, version, port, address=None):
    """A connection with its true addresses at both ends, bytes both ways, and ends in order. address: of pod b, if it is
    another one than its first."""
    address = address or bed.address("b", version)
    client = bed.agent(who).connect(address, port)
    server, peer = listener.accept()
    mapped = "::ffff:" if version == 4 and ":" in server.getsockname()[0] else ""
    equal(peer[:2], (mapped + client.getsockname()[0], client.getsockname()[1]), "the client's address, by accept()")
    equal(server.getpeername()[:2], peer[:2], "by getpeername()")
    equal(server.getsockname()[:2], (mapped + address, port), "the server's own")
    equal(client.getpeername()[:2], (address, port), "as the client sees it")
    talk(client, server, TEXT)
    client.shutdown(socket.SHUT_WR)
    equal(server.recv_to_end(), (b"", 0), "the client's end")
    server.sendall(TEXT)
    server.close()
    equal(client.recv_to_end(), (TEXT, 0), "the server's last words, and its end")
    client.close()


@case("a listener that is bound to a device is reached, with the true addresses at both ends")
def reached(bed):
    counted = None if bed.plain else Counted(bed)
    for port, listening, when, version in ((5980, 4, "before", 4), (5981, 6, "before", 6), (5982, 46, "before", 4),
                                           (5983, 4, "after", 4), (5984, 6, "after", 6)):
        listener = bound_listener(bed, "eth0", port, listening, when)
        exchange(bed, "a", listener, version, port)
        listener.close()
    if counted:
        counted.check(established=5, ended=5, backstop=0, listener_device=0, dial_timeout=0)


@case("one that is bound to another device is not; the daemon names the device, explain does, too")
def other_device(bed):
    counted = None if bed.plain else Counted(bed)
    since = 0 if bed.plain else bed.log_size(2)
    for version, port in ((4, 5985), (6, 5986)):
        listener = bound_listener(bed, "lo", port, version)
        client = bed.agent("a").socket(socket.AF_INET if version == 4 else socket.AF_INET6)
        start = time.monotonic()
        equal(client.connect_ex((bed.address("b", version), port)), errno.ECONNREFUSED, "connect()")
        check(time.monotonic() - start < 8, f"it took {time.monotonic() - start:.1f} s")
        if counted:
            why = f"bound to lo, which does not have {bed.address('b', version)}"
            bed.wait_log(2, since, "reason=listener-device", "direction=inbound", f'detail="{why}"')
            answer = bed.kmtls(2, "explain", bed.address("a", version), f"b:{port}")
            equal((answer["result"], answer["decided_by"], answer["reason"], answer["sees"], answer["text"]),
                  ("refused", "listener-device", "listener-device", "ECONNREFUSED",
                   f"the application's listener is {why}"), "kmtls explain")
        listener.close()
        client.close()
    if counted:
        counted.check(listener_device=2, backstop=0)


@case("permissive: plaintext reaches a listener that is bound to a device, and is reset by one of another", mesh=True)
def plaintext(bed):
    with permissive(bed):
        counted = Counted(bed)
        for version, port in ((4, 5987), (6, 5988)):
            listener = bound_listener(bed, "eth0", port, version)
            exchange(bed, "x", listener, version, port)
            answer = bed.kmtls(2, "explain", bed.address("x", version), f"b:{port}")
            equal([(step["state"], step["text"]) for step in answer["steps"] if step["rule"] == "listener"],
                  [("yes", "an application listens on the port, bound to eth0")], "kmtls explain")
            listener.close()
            listener = bound_listener(bed, "lo", port, version)
            client = bed.agent("x").connect(bed.address("b", version), port)
            equal(client.recv_to_end(), (b"", errno.ECONNRESET), "one that is bound to lo")
            client.close()
            listener.close()
        counted.check(plaintext=2, ended=2, listener_device=2, backstop=0, dial_timeout=0)


YOUNG = {4: "10.89.2.77", 6: "fd89:2::77"}


@contextlib.contextmanager
def young_addresses(bed):
    """Of pod b, since its enrolment."""
    words = [("b", "addr", f"{YOUNG[version]}/{length}", "eth0") for version, length in ((4, 32), (6, 128))]
    words += [("n2", "route", f"{YOUNG[version]}/{length}", "pod-b") for version, length in ((4, 32), (6, 128))]
    for place, what, prefix, device in words:
        nodad = ["nodad"] if what == "addr" and ":" in prefix else []
        bed.run(place, "ip", what, "add", prefix, "dev", device, *nodad)
    try:
        yield
    finally:
        for place, what, prefix, device in words:
            bed.run(place, "ip", what, "del", prefix, "dev", device)


@case("an address that the pod has got since its enrolment: the daemon does not take its own connection to the application "
      "for a client's", mesh=True)
def young_address(bed):
    with permissive(bed), young_addresses(bed):
        counted = Counted(bed)
        for version, port in ((4, 5992), (6, 5993)):
            for device in ("", "eth0"):
                listener = bound_listener(bed, device, port, version)
                exchange(bed, "x", listener, version, port, YOUNG[version])
                listener.close()
        counted.check(plaintext=4, ended=4, steered=4, listener_device=0, dial_timeout=0)


@contextlib.contextmanager
def deaf(bed, version, port):
    """A listener whose queue is full: the kernel does not answer any more."""
    listener = bed.agent("b").socket(socket.AF_INET if version == 4 else socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((bed.address("b", version), port))
    listener.listen(0)
    first = bed.agent("b").connect(bed.address("b", version), port)  # the only one it has room for
    try:
        yield
    finally:
        first.close()
        listener.close()


@case("an application that does not answer: plaintext clients and those of the mesh end by handshake_timeout, and "
      "nothing is left of them", mesh=True)
def no_answer(bed):
    before = held_state(bed)
    bed.kmtls(2, "settings", "set", "handshake_timeout", "1s")
    try:
        with permissive(bed):
            counted, since = Counted(bed), bed.log_size(2)
            for version, port in ((4, 5989), (6, 5990)):
                with deaf(bed, version, port):
                    for words in (TEXT, b""):  # the client speaks first, or waits for the application
                        start = time.monotonic()
                        client = bed.agent("x").connect(bed.address("b", version), port)
                        client.sendall(words)
                        equal(client.recv_to_end(), (b"", errno.ECONNRESET), "what the client sees")
                        took = time.monotonic() - start
                        check(0.8 < took < 7, f"handshake_timeout is 1 s, it took {took:.1f} s")
                        client.close()
            counted.check(dial_timeout=4, handshake_timeout=0, plaintext=0)
            bed.wait_log(2, since, "reason=dial-timeout", "direction=inbound",
                         'detail="the application did not answer"')
            with deaf(bed, 4, 5991):
                client = bed.agent("a").socket()
                client.settimeout(20)
                attempt = client.start("connect_ex", (bed.address("b"), 5991))
                until(lambda: counted("dial-timeout") > 4, "the daemon's patience has ended", 15)
                client.agent.result(attempt)
                client.close()
    finally:
        bed.kmtls(2, "settings", "set", "handshake_timeout", "60s")
    settle(bed, before)
