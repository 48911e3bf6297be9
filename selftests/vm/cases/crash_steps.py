# SPDX-License-Identifier: Apache-2.0
"""A worker is killed before its Nth system call while it serves one connection, for every N.

The connection is always the same: connect, bytes, half-close, an answer, close; every other time it is
the server that ends first. Whatever the moment, the connection continues byte-exact (a connect may take
the repetition of a SYN longer), or it is reset or refused and that is counted. Nothing else: no end that
looks clean, no wrong byte, no hang, nothing left over. On both nodes, so in both roles.
"""
import collections
import errno
import json
import os
import random
import select
import socket
import struct
import subprocess
import threading
import time

from lib import balance
from lib.tap import Failure, case, check, equal, until

PORT = 5620
UP, DOWN = 40000, 30000  # a few records, of which the last is not full
SECONDS = 25  # without a byte: it hangs
TCP_SYNCNT = 7
STEP = 11  # of the normal suite; where another kernel's guest does that, three times as far
# A worker's death is none of these, whatever it interrupted.
NEVER = ("truncated", "bad-record", "unexpected-record", "peer-alert", "relay-failed", "ktls-failed")
HARMLESS = ("established", "ended", "passed", "intercepted", "steered", "held", "retried")  # counters
RESET = (errno.ECONNRESET, errno.EPIPE)


# --- in the agents ------------------------------------------------------------------------------------


def stream(number, size):
    return random.Random(number).randbytes(size)


def read_end(sock):
    parts = []
    while True:
        part = sock.recv(65536)
        if not part:
            return b"".join(parts)
        parts.append(part)


def talk(sock, first, mine, wanted):
    """One end of the script: what it is for this end."""
    if first:
        sock.sendall(mine)
        sock.shutdown(socket.SHUT_WR)
    got = read_end(sock)
    if got != wanted:
        return f"wrong: a clean end after {len(got)} of {len(wanted)} bytes, which " + (
            "are right" if wanted.startswith(got) else "differ")
    if not first:
        sock.sendall(mine)
        sock.shutdown(socket.SHUT_WR)
    return "exact"


def judged(function, *args):
    try:
        return function(*args)
    except socket.timeout:
        return "hangs"
    except OSError as error:
        return "reset" if error.errno in RESET else f"wrong: {error}"


def client_once(address, number):
    """The client's end of connection number."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        sock.settimeout(SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_SYNCNT, 5)
        try:
            sock.connect((address, PORT))
        except OSError as error:
            return "refused" if error.errno in (errno.ECONNREFUSED, *RESET) else f"wrong: connect: {error}"
        return judged(lambda: (sock.sendall(struct.pack("!Q", number)), talk(
            sock, number % 2 == 0, stream(number, UP), stream(~number & 0xFFFF, DOWN)))[1])


class Served:
    """The server's ends: by the number the client has sent, None for those that never said it."""

    results = collections.defaultdict(list)
    listening = False


def serve_one(sock):
    number = None

    def work():
        nonlocal number
        head = b""
        while len(head) < 8:
            part = sock.recv(8 - len(head))
            if not part:
                return "wrong: a clean end before a word was said"
            head += part
        number = struct.unpack("!Q", head)[0]
        return talk(sock, number % 2 == 1, stream(~number & 0xFFFF, DOWN), stream(number, UP))

    with sock:
        sock.settimeout(SECONDS)
        verdict = judged(work)
    Served.results[number].append(verdict)


def start_server(addresses):
    def accept_all(listener):
        while True:
            threading.Thread(target=serve_one, args=(listener.accept()[0],), daemon=True).start()

    if Served.listening:
        return
    Served.listening = True
    for address in addresses:
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, PORT))
        listener.listen(64)
        threading.Thread(target=accept_all, args=(listener,), daemon=True).start()


def served(number):
    """What is known of the connection so far, and of those that said nothing."""
    return Served.results.pop(number, []), Served.results.pop(None, [])


# --- the sweep ----------------------------------------------------------------------------------------


class Stepper:
    """tools/stepkill on a node's worker."""

    def __init__(self, bed, node, number):
        self.worker = bed.worker_pid(node)
        check(self.worker, f"node {node} has no worker")
        self.process = subprocess.Popen([bed.tools + "/stepkill", str(self.worker), str(number)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        bed.processes.append(self.process)
        check(select.select([self.process.stdout], [], [], 20)[0], "stepkill says nothing")
        equal(self.process.stdout.readline().strip(), "ready", "what stepkill says")

    def end(self):
        text = self.process.communicate(timeout=20)[0]
        return json.loads(text)


def call_name(number, names={}):  # pylint: disable=dangerous-default-value
    """The name of a system call, from the header that has them."""
    if not names:
        for path in ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"):
            if os.path.exists(path):
                with open(path, encoding="ascii") as file:
                    for line in file:
                        words = line.split()
                        if len(words) == 3 and words[1].startswith("__NR_"):
                            names[int(words[2])] = words[1][5:]
    return names.get(number, str(number))


def refusals(bed):
    """All counters of both nodes that tell of a connection that went wrong, together."""
    return sum(value for node in (1, 2) for name, value in bed.counters(node).items() if name not in HARMLESS)


def misread(bed):
    """Counters of what a daemon can only have counted because it went on from the wrong place."""
    return {(node, name): bed.counter(node, name) for node in (1, 2) for name in NEVER}


def one_kill(bed, node, number, address):
    """(What became of the connection, what stepkill did)."""
    counted = refusals(bed)
    stepper = Stepper(bed, node, number)
    verdict = bed.agent("a").call(client_once, address, number)
    said = stepper.end()
    if said["killed"]:
        bed.wait_worker(node, stepper.worker)
    ends, silent = [], []

    def known():
        more, mute = bed.agent("b").call(served, number)
        ends.extend(more)
        silent.extend(mute)
        return ends or verdict in ("refused", "reset")

    until(known, f"the server's end of connection {number} (the client's: {verdict})", SECONDS + 5)
    everything = [verdict, *ends, *silent]
    wrong = [one for one in everything if one not in ("exact", "reset", "refused")]
    if wrong or len(ends) > 1:
        raise Failure(f"client: {verdict}, server: {ends}, without a word: {silent}")
    if verdict == "exact" and ends == ["exact"] and not silent:
        return "continues", said
    until(lambda: refusals(bed) > counted, f"a counter tells of it (client: {verdict}, server: {ends}, {silent})", 5)
    if verdict == "exact" and ends == ["exact"]:
        return "continues at the second attempt", said  # the server's application saw a first one reset
    return "refused" if verdict == "refused" else "reset", said


def sweep(bed, node, address, seconds):
    """Every N in --long, else every STEPth from a start that is another each time."""
    bed.agent("b").call(start_server, [bed.address("b"), bed.address("b", 6)])
    before, strange = balance.take(bed), misread(bed)
    calls_in_all = 0
    for _ in range(2):  # the second finds everything warm
        outcome, said = one_kill(bed, node, 0, address)
        equal((outcome, said["killed"]), ("continues", False), "a connection whose worker is left alone")
        calls_in_all = said["counted"]
    check(calls_in_all > 30, f"a connection has only {calls_in_all} system calls?")
    step = 1 if bed.scale > 1 else STEP * bed.share
    start = number = 1 + int(time.time()) % step
    outcomes, calls = collections.Counter(), collections.defaultdict(collections.Counter)
    began, missed = time.monotonic(), 0
    # The daemon's own work of each second is counted, too, so the last N is not always the same.
    while missed < (3 if step == 1 else 1):
        try:
            outcome, said = one_kill(bed, node, number, address)
        except Failure as failure:
            raise Failure(f"killed before system call {number} on node {node} (so far {dict(outcomes)}): {failure}") from None
        missed += not said["killed"]
        if said["killed"]:
            outcomes[outcome] += 1
            calls[outcome][call_name(said["call"])] += 1
        else:
            equal(outcome, "continues", f"a connection of {said['counted']} system calls, none killed")
        number += step
        check(time.monotonic() - began < seconds, f"not through after {seconds} s at N = {number}: {dict(outcomes)}")
    balance.settle(bed, before)
    equal(misread(bed), strange, "counters of what a death must not look like")
    rest = "; ".join(f"{outcome} at {dict(names)}" for outcome, names in calls.items() if not outcome.startswith("continues"))
    return f"{calls_in_all} calls; N = {start}, {start + step} ... {number - step}: {dict(outcomes)}" + (f"; {rest}" if rest else "")


@case("the client's worker is killed before its Nth system call: continues byte-exact, or is reset and counted", mesh=True,
      timeout=1500)
def client_node(bed):
    return sweep(bed, 1, bed.address("b"), 100 if bed.scale == 1 else 1400)


@case("the server's worker is killed before its Nth system call: continues byte-exact, or is reset and counted", mesh=True,
      timeout=1500)
def server_node(bed):
    return sweep(bed, 2, bed.address("b", 6), 100 if bed.scale == 1 else 1400)
