# SPDX-License-Identifier: Apache-2.0
"""Local legs that are short-circuited by sk_msg: `kmtls pod add --accel on` (docs/accel.md).

What holds for every flow holds for these, too: bytes and their order, ends, bounds, crashes. And what the
documentation says an application may notice is what it notices.
"""
import contextlib
import errno
import fcntl
import os
import random
import socket
import struct
import termios
import time

from lib import agent as agents
from lib import balance
from lib.bed import MARKER
from lib.tap import case, check, equal
from lib.traffic import BAD, Killer, Traffic

from . import crash_steps
from .connect_daemon import Stopped
from .crash import ROUTES
from .streams import pair

NODE = {"a": 1, "c": 1, "b": 2, "d": 2}
TCP_INFO, BYTES_ACKED, BYTES_RECEIVED = 11, 120, 128
SMALL = 200
REPEATED = 1 << 20


# --- in the agents ------------------------------------------------------------------------------------


def stream(seed, size):
    return random.Random(seed).randbytes(size)


def scatter(sock, seed, size):
    """Sends a stream in parts of all sizes, some of them held back with MSG_MORE; the socket does not block,
    so that long ones are taken in part."""
    rest, rnd = memoryview(stream(seed, size)), random.Random(~seed)
    while rest:
        kind = rnd.random()
        length = 1 if kind < 0.3 else rnd.randint(1, SMALL) if kind < 0.7 else rnd.randint(1, 60000)
        more = socket.MSG_MORE if rnd.random() < 0.3 and length < len(rest) else 0
        rest = rest[sock.send(rest[:length], more):]
        if rnd.random() < 0.02:
            time.sleep(rnd.random() * 0.02)


def gather(sock, seed, size, slow):
    """Receives as scatter sends; what is wrong, or an empty string."""
    wanted, rnd, got = stream(seed, size), random.Random(seed * 7), 0
    while got < size:
        part = sock.recv(rnd.randint(1, 30000 if rnd.random() < 0.5 else SMALL))
        if part != wanted[got:got + len(part)]:
            return f"other bytes within {len(part)} from {got} on"
        if not part:
            return f"the end after {got} of {size} bytes"
        got += len(part)
        if slow and rnd.random() < 0.05:
            time.sleep(rnd.random() * 0.05)
    return ""


def fill(sock, seed, most):
    """Sends until nothing more is taken for two seconds: how much that was."""
    block, sent = stream(seed, REPEATED) * 2, 0
    sock.settimeout(2)
    try:
        while sent < most:
            start = sent % REPEATED
            sent += sock.send(memoryview(block)[start:start + 65536])
    except socket.timeout:
        pass
    return sent


def empty(sock, seed, size):
    """Receives what fill has sent; what is wrong, or an empty string."""
    block, got = stream(seed, REPEATED) * 2, 0
    while got < size:
        part = sock.recv(65536)
        start = got % REPEATED
        if not part or part != block[start:start + len(part)]:
            return f"wrong from {got} on ({len(part)} bytes)"
        got += len(part)
    return ""


def in_parts(sock, seed, sizes):
    """Sends a stream, each part by a call of its own, when the one before has been read, if it can be."""
    rest = memoryview(stream(seed, sum(sizes)))
    for size in sizes:
        sock.sendall(rest[:size])
        rest = rest[size:]
        time.sleep(0.03)


def tcp_bytes(sock):
    """What the socket has sent and received by TCP."""
    info = sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 232)
    return struct.unpack_from("Q", info, BYTES_ACKED)[0], struct.unpack_from("Q", info, BYTES_RECEIVED)[0]


def spliced(sock, size):
    """How many bytes splice() takes out of it, or the errno."""
    read_end, write_end = os.pipe()
    os.set_blocking(sock.fileno(), False)
    try:
        return os.splice(sock.fileno(), write_end, size, flags=2)
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        os.close(read_end)
        os.close(write_end)


def queued(sock):
    return struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0"))[0]


def wait_blocked(sock):
    """recv() of a socket that blocks: the errno, or what came."""
    sock.settimeout(None)
    try:
        return sock.recv(1)
    except OSError as error:
        return errno.errorcode[error.errno]


agents.EXTRA.update(scatter=scatter, gather=gather, fill=fill, empty=empty, in_parts=in_parts, tcp_bytes=tcp_bytes, spliced=spliced,
                    queued=queued, wait_blocked=wait_blocked)


# --- here ---------------------------------------------------------------------------------------------


def enrol(bed, pod, *options):
    bed.kmtls(NODE[pod], "pod", "del", pod)
    bed.kmtls(NODE[pod], "pod", "add", pod, "--netns", "/run/netns/kt-" + pod, "--cgroup", f"{bed.env['cgroup']}/{pod}", "--id",
              bed.env[pod + "_id"], *options)


@contextlib.contextmanager
def accelerated(bed, *pods):
    pods = pods or ("a", "b")
    bed.close_sockets()
    try:
        for pod in pods:
            enrol(bed, pod, "--accel", "on")
        yield
    finally:
        bed.close_sockets()
        for pod in pods:
            enrol(bed, pod)


def defects(bed):
    """What applications would notice on this kernel, by what `kmtls check` says."""
    text = next(each["text"] for each in bed.kmtls(1, "check")["checks"] if each["text"].startswith("accel: "))
    return text.rsplit(": ", 1)[1].split(", ") if "would notice" in text else []


def talk(first, second, rounds=20):
    """Requests and answers, each of which is read before the next one: how many bytes, both ways."""
    total = 0
    for number in range(rounds):
        for near, far in ((first, second), (second, first)):
            text = f"{MARKER} {number}".encode()
            near.sendall(text)
            equal(far.recv_exactly(len(text)), text, "a message")
            total += len(text)
    return total


def by_tcp(*socks):
    """Bytes sent and received by TCP, of all of them; a SYN counts as one."""
    return sum(number for sock in socks for number in sock.tcp_bytes())


def accel_of(bed, name):
    pod = next(pod for pod in bed.kmtls(1, "pod", "list") if pod["name"] == name)
    return pod["accel"], pod["accelerated"]


@case("--accel on, off and auto, and what pod list and check say of it", mesh=True)
def choice(bed):
    noticed = defects(bed)
    for wanted, is_on in (("on", True), ("off", False), ("auto", not noticed)):
        enrol(bed, "c", "--accel", wanted)
        equal(accel_of(bed, "c"), (wanted, is_on), "what pod list says")
        client, server = pair(bed, 4, client="c")
        size = talk(client, server)
        if is_on:
            check(by_tcp(client) < 10, f"--accel {wanted}: {client.tcp_bytes()} bytes by TCP")
        else:
            check(by_tcp(client) >= size, f"--accel {wanted}: {client.tcp_bytes()} bytes by TCP")
        client.close()
        server.close()
    enrol(bed, "c")
    equal(accel_of(bed, "c")[0], "auto", "the default")
    return f"noticed: {', '.join(noticed)}"


@case("the default of kmtlsd.yaml is that of pods which do not say, from the daemon's next start on", mesh=True, kernel="6.12")
def preset(bed):
    enrol(bed, "a", "--accel", "off")
    try:
        for value in ("on", "off", None):
            bed.configure(1, "accel", value)
            bed.testbed("upgrade", "1")
            name = value or "auto"
            equal(bed.kmtls(1, "settings", "get", "accel"), [{"name": "accel", "value": name, "changes": "restart"}], "the setting")
            check(any(f"accel: the default is {name}; " in each["text"] for each in bed.kmtls(1, "check")["checks"]), "check names it")
            equal(accel_of(bed, "c"), (name, value == "on" or (value is None and not defects(bed))), f"of a pod that says nothing: {name}")
            equal(accel_of(bed, "a"), ("off", False), f"of one that says off: {name}")
            if value == "on":
                client, server = pair(bed, 4, client="c")
                talk(client, server)
                check(by_tcp(client) < 10, f"{client.tcp_bytes()} bytes by TCP")
                enrol(bed, "c")
                equal(accel_of(bed, "c"), (name, True), "of one that is enrolled now")
    finally:
        bed.configure(1, "accel", None)
        bed.testbed("upgrade", "1")
        enrol(bed, "a")


@case("--accel on outlives the daemon's worker and a restart", mesh=True, kernel="6.12")
def remembered(bed):
    with accelerated(bed, "c"):
        bed.kill_worker(1)
        bed.wait_worker(1)
        bed.testbed("upgrade", "1")
        equal(accel_of(bed, "c"), ("on", True), "what pod list says")
        client, server = pair(bed, 4, client="c")
        talk(client, server)
        check(by_tcp(client) < 10, f"{client.tcp_bytes()} bytes by TCP")


@case("requests and answers pass both local legs without TCP; a client, a server, IPv4, IPv6", mesh=True)
def redirected(bed):
    with accelerated(bed):
        for version in (4, 6):
            for near, far in (("a", "b"), ("b", "a")):
                client, server = pair(bed, version, near, far)
                size = talk(client, server)
                check(by_tcp(client, server) < 10, f"by TCP: {client.tcp_bytes()}, {server.tcp_bytes()} of {size}")
                equal((client.getpeername()[0], server.getpeername()[0]), (bed.address(far, version), bed.address(near, version)),
                      "addresses")
                server.sendall(b"the last one")
                server.close()
                equal(client.recv_to_end(), (b"the last one", 0), "the end")
                client.close()


@case("parts of all sizes, one byte, MSG_MORE, taken in part, both ways at once, slow readers: every byte in its place",
      mesh=True, timeout=400)
def scattered(bed):
    size = (4 if bed.scale > 1 else 1) << 20
    with accelerated(bed):
        for number, (version, slow) in enumerate(((4, False), (6, False), (4, True), (6, True))):
            client, server = pair(bed, version)
            jobs = [(client, client.start("scatter", 2 * number, size)), (server, server.start("scatter", 2 * number + 1, size)),
                    (server, server.start("gather", 2 * number, size, slow)),
                    (client, client.start("gather", 2 * number + 1, size, slow))]
            equal([sock.agent.result(job) for sock, job in jobs], [None, None, "", ""], f"IPv{version}, slow: {slow}")
            talk(client, server)
            for sock in (client, server):
                sock.close()
    return f"4 connections, {size >> 20} MiB each way"


@contextlib.contextmanager
def slow_loopback(bed, pod):
    """What goes by TCP there arrives half a second later."""
    bed.run(pod, "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "500ms", "limit", "10000")
    try:
        yield
    finally:
        bed.run(pod, "tc", "qdisc", "del", "dev", "lo", "root")


def sends_in_parts(client, server, seed):
    """A long part goes by TCP. While it is under way or unread, what comes after it goes there, too: redirected,
    it would be read first."""
    sizes = (SMALL, 17000, SMALL, 1, 17000, SMALL)
    client.in_parts(seed, sizes)
    return lambda: equal(server.recv_exactly(sum(sizes)) == stream(seed, sum(sizes)), True, "the bytes are those that were sent")


@case("short parts do not overtake long ones, neither on their way nor unread", mesh=True)
def ordered(bed):
    with accelerated(bed, "a"):
        for seed, version in enumerate((4, 6)):
            client, server = pair(bed, version)
            talk(client, server)
            with slow_loopback(bed, "a"):
                sends_in_parts(client, server, seed)()
            with Stopped(bed, 1):
                arrived = sends_in_parts(client, server, seed)
            arrived()
            talk(client, server)
            client.close()
            server.close()


@case("who does not read stops the sender: bounded, and all of it arrives afterwards", mesh=True, timeout=400)
def stalled(bed):
    most, said = 150 << 20, []
    with accelerated(bed):
        for version, who in ((4, "client"), (6, "server")):
            client, server = pair(bed, version)
            sender, reader = (client, server) if who == "client" else (server, client)
            talk(client, server)
            sent = sender.fill(version, most)
            check(sent < most / 3, f"{sent >> 20} MiB were taken from the {who} while nobody read them")
            sender.settimeout(40)
            equal(reader.empty(version, sent), "", "what had piled up")
            talk(client, server)
            said.append(f"{who}: {sent / 1e6:.1f} MB")
            client.close()
            server.close()
    return ", ".join(said)


@case("ends: half-close, a late reader, a reset, a process that dies", mesh=True)
def ends(bed):
    answer = stream(1, 20000)
    with accelerated(bed):
        for version in (4, 6):
            for who in ("client", "server"):
                first, second = (pair(bed, version) if who == "client" else pair(bed, version)[::-1])
                first.sendall(b"request")
                first.shutdown(socket.SHUT_WR)
                equal(second.recv_to_end(), (b"request", 0), "a request and its end")
                second.sendall(answer[:300])
                second.sendall(answer[300:])
                second.close()
                time.sleep(1)  # everything is in the other one's queue, and its TCP has ended
                equal(first.recv_to_end(), (answer, 0), f"the answer to a {who} that has ended")
                first.close()

                first, second = (pair(bed, version) if who == "client" else pair(bed, version)[::-1])
                talk(first, second)
                first.reset()
                equal(second.recv_to_end(), (b"", errno.ECONNRESET), f"after a reset by the {who}")
                second.close()


@case("what an application may notice is what the documentation says, by the names check gives", mesh=True)
def noticed(bed):
    found = defects(bed)
    with accelerated(bed):
        client, server = pair(bed, 4)
        talk(client, server)
        server.sendall(b"x" * SMALL)
        time.sleep(1)
        equal(client.queued(), 0 if "FIONREAD" in found else SMALL, "FIONREAD")
        equal(client.spliced(SMALL), "EAGAIN" if "splice" in found else SMALL, "splice()")
        if "splice" in found:
            equal(client.recv_exactly(SMALL), b"x" * SMALL, "recv() gets them")
        client.settimeout(40)
        client.close()
        server.close()

        client, server = pair(bed, 4)
        talk(client, server)
        waiting = client.start("wait_blocked")
        time.sleep(1)
        server.reset()
        equal(client.agent.result(waiting), "EAGAIN" if "reset" in found else "ECONNRESET", "recv() that a reset meets")
    return f"noticed: {', '.join(found)}"


@case("workers are killed in mid-stream: byte-exact, or reset and counted; never a clean end, never a hole", mesh=True,
      timeout=600)
def killed(bed):
    with accelerated(bed):
        before = balance.take(bed)
        cut = {node: bed.counter(node, "accel-cut") for node in (1, 2)}
        since = {node: bed.log_size(node) for node in (1, 2)}
        count = 40 if bed.scale > 1 else 10
        with Traffic(bed, ROUTES, 8, 16384, patience=100) as traffic:
            with Killer(bed, count=count, seed=int(time.time())) as killer:
                killer.wait(count + 60)
            for node in (1, 2):
                bed.wait_worker(node)
            sums = traffic.stop(150)
        cut = sum(bed.counter(node, "accel-cut") - cut[node] for node in (1, 2))
        for side, (found, error) in zip(("servers", "clients"), sums):
            bad = {name: found[name] for name in BAD if found[name] and name != "resets"}
            check(not bad, f"{side}: {bad}; {error}")
            equal(found["ok"] + found["resets"], traffic.total, f"connections of the {side}")
            check(found["resets"] <= cut, f"{side}: {found['resets']} resets, {cut} counted")
            check(found["ok"] or bed.scale > 1, f"{side}: none is whole")
        if cut:
            check(any("reason=accel-cut" in bed.log(node, since[node]) for node in (1, 2)), "the log says so")
        balance.settle(bed, before)
    return f"{sums[1][0]['ok']} of {traffic.total} whole, {sums[1][0]['resets']} reset, {cut} counted"


def carried(bed, rounds, step):
    """Streams on each route, all of them whole, while step(node) happens to both nodes, rounds times."""
    with accelerated(bed):
        before = balance.take(bed)
        with Traffic(bed, ROUTES, 4, 16384, patience=100) as traffic:
            for _ in range(rounds):
                for node in (1, 2):
                    step(node)
            said = traffic.stop_whole(150)
        balance.settle(bed, before)
    return said


@case("upgrades in mid-stream reset no accelerated flow", mesh=True, timeout=400, kernel="6.12")
def upgraded(bed):
    return carried(bed, 10 if bed.scale > 1 else 3, lambda node: bed.testbed("upgrade", str(node)))


@case("a daemon that takes over in mid-stream resets no accelerated flow", mesh=True, timeout=400, kernel="6.12")
def taken_over(bed):
    def take_over(node):
        former = bed.daemon_pid(node)
        bed.testbed("take-over", str(node))
        check(bed.daemon_pid(node) != former and bed.wait_worker(node), f"another keeper on node {node}")

    return carried(bed, 10 if bed.scale > 1 else 1, take_over)


@case("keeper and worker are killed together in mid-stream: both applications are reset", mesh=True, timeout=200, kernel="6.12")
def both_killed(bed):
    with accelerated(bed):
        with Traffic(bed, ROUTES, 4, 16384, patience=15) as traffic:
            time.sleep(1)
            bed.testbed("kill", "1")
            sides = traffic.stop()
        bed.testbed("start", "1")
        bed.wait_worker(1)
        for found, error in sides:
            equal({name: found[name] for name in ("ok", *BAD) if found[name]}, {"resets": traffic.total},
                  f"how the connections ended ({error})")
        client, server = pair(bed, 6)
        talk(client, server)
        check(by_tcp(client, server) < 10, f"by TCP: {client.tcp_bytes()}, {server.tcp_bytes()}")


@case("a worker is killed before its Nth system call: continues byte-exact, or is reset and counted", mesh=True, timeout=900,
      kernel="6.12")
def stepwise(bed):
    with accelerated(bed):
        said = [crash_steps.sweep(bed, 1, bed.address("b"), 400), crash_steps.sweep(bed, 2, bed.address("b", 6), 400)]
    return "; ".join(said)
