# SPDX-License-Identifier: Apache-2.0
"""From off to strict and back under load, by the steps of docs/modes.md, "Migrating": no request fails."""
import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time

from lib.tap import case, check, equal, until

from .apps import start_nginx, start_redis

REDIS, BANNER = 6390, 2526
GREETING, FAREWELL = b"220 ready\r\n", b"221 bye\r\n"

_counts = {"done": 0, "failed": []}  # in an agent


# --- in agents ----------------------------------------------------------------------------------------


def serve_banners(addresses, port):
    """Speaks first, then answers and ends."""
    def talk(sock):
        # The client may be one of the mesh that was late (docs/permissive.md): then it is a reset.
        with sock, contextlib.suppress(ConnectionResetError):
            sock.sendall(GREETING)
            if sock.recv(100) == b"QUIT\r\n":
                sock.sendall(FAREWELL)

    def serve(listener):
        while True:
            threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        threading.Thread(target=serve, args=(socket.create_server((address, port), family=family),), daemon=True).start()


def read_to_end(sock):
    got = b""
    while part := sock.recv(100):
        got += part
    return got


def ask_banners(addresses, port, stop):
    """One connection after the other, until there is the file. How many were right, and what was wrong."""
    number = 0
    while not os.path.exists(stop):
        number += 1
        try:
            with socket.create_connection((addresses[number % len(addresses)], port), 20) as sock:
                sock.settimeout(20)
                first = sock.recv(len(GREETING))
                sock.sendall(b"QUIT\r\n")
                rest = read_to_end(sock)
                if first + rest != GREETING + FAREWELL:
                    raise EOFError(f"got {first + rest}")
            _counts["done"] += 1
        except (OSError, EOFError) as error:
            _counts["failed"].append(f"banner {number}: {error!r}")
    return _counts["failed"]


def banners_done():
    return _counts["done"]


def benchmark(host, stop):
    """redis-benchmark again and again, in turns with a connection for each request and with few for all."""
    runs, failed = 0, []
    while not os.path.exists(stop):
        keep = runs % 2
        done = subprocess.run(["redis-benchmark", "-h", host, "-p", str(REDIS), "-k", str(keep), "-c", "2", "-n",
                               "200" if keep else "10", "-t", "get", "--csv"], capture_output=True, text=True, timeout=120,
                              check=False)
        said = done.stdout + done.stderr
        if done.returncode or "rror" in said or "Could not" in said or '"GET"' not in said:
            failed.append(f"redis-benchmark {runs}, -k {keep}: status {done.returncode} {said[-300:]}")
        runs += 1
    return runs, failed


# --- loads ---------------------------------------------------------------------------------------------


class Loads:
    """wrk with a connection for each request, redis-benchmark and clients of a server that speaks first, all from
    a to b."""

    def __init__(self, bed):
        start_nginx(bed)
        with open(bed.dir + "/www/small", "wb") as file:
            file.write(b"s" * 2000)
        self.server = start_redis(bed, REDIS)
        both = [bed.address("b", version) for version in (4, 6)]
        bed.agent("b").call(serve_banners, both, BANNER)
        bed.wait_port("b", 80)
        self.bed, self.stop, self.report = bed, bed.dir + "/stop", bed.dir + "/wrk"
        self.wrk = bed.spawn("a", "wrk", "-t", "1", "-c", "2", "-d", "600s", "--timeout", "20s", "-H", "Connection: close",
                             f"http://{both[0]}/small", output=self.report)
        self.agent = bed.agent("a")
        self.banners = self.agent.start(ask_banners, both, BANNER, self.stop)
        self.redis = self.agent.start(benchmark, both[1], self.stop)

    def pass_some(self, seconds):
        """Lets all of them do something, a while."""
        before = self.agent.call(banners_done)
        time.sleep(seconds)
        until(lambda: self.agent.call(banners_done) >= before + 3, "requests are answered", 30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with open(self.stop, "w", encoding="ascii"):
            pass
        self.wrk.kill()
        self.server.kill()

    def end(self):
        """Ends them. What to say about them, and all that failed."""
        with open(self.stop, "w", encoding="ascii"):
            pass
        self.wrk.send_signal(signal.SIGINT)
        self.wrk.wait(30)
        failed = self.agent.result(self.banners)
        runs, of_redis = self.agent.result(self.redis)
        with open(self.report, encoding="ascii") as file:
            said = file.read()
        answered = re.search(r"(\d+) requests in ", said)
        check(answered and int(answered.group(1)) > 0, f"wrk: {said}")
        failed += of_redis + re.findall(r"Socket errors.*|Non-2xx.*", said)
        return (f"wrk {answered.group(1)} requests, redis-benchmark {runs} runs, {self.agent.call(banners_done)} banners"), failed


def established(bed):
    return bed.counter(1, "established")


def open_in_plaintext(bed):
    return [row for node in (1, 2) for row in bed.kmtls(node, "policy", "dry-run", "strict")["connections"]]


def everywhere(bed, *words):
    for node in (1, 2):
        bed.kmtls(node, "policy", "set", *words)


@case("off, permissive, strict, and back, under wrk, redis-benchmark and a server that speaks first: no request fails",
      mesh=True, timeout=200, kernel="6.12")
def under_load(bed):
    seconds = 1 * bed.scale
    everywhere(bed, "off")
    try:
        with Loads(bed) as loads:
            before = established(bed)
            loads.pass_some(seconds)
            equal(established(bed), before, "connections over the mesh while it is off")
            # Who accepts first, on every node; who connects after that.
            everywhere(bed, "permissive", "--inbound")
            loads.pass_some(seconds)
            equal(established(bed), before, "connections over the mesh while nobody dials by it")
            everywhere(bed, "permissive", "--outbound")
            until(lambda: not open_in_plaintext(bed), "nothing is left in plaintext", 60)
            loads.pass_some(seconds)
            in_permissive = established(bed)
            check(in_permissive > before, "nothing went over the mesh in permissive mode")
            refused = {node: bed.counters(node) for node in (1, 2)}
            everywhere(bed, "strict")
            loads.pass_some(seconds)
            in_strict = established(bed)
            check(in_strict > in_permissive, "nothing went over the mesh in strict mode")
            for node in (1, 2):
                gained = {name: bed.counter(node, name) - refused[node].get(name, 0) for name in ("not-mesh", "no-peer")}
                equal(gained, {"not-mesh": 0, "no-peer": 0}, f"refused on node {node} since it is strict")
            for words in (("permissive",), ("off", "--outbound"), ("off", "--inbound")):
                everywhere(bed, *words)
                loads.pass_some(seconds / 2)
            said, failed = loads.end()
        equal(failed, [], "what failed")
    finally:
        everywhere(bed, "strict")
    return f"{said}, 0 failed; {in_strict - before} connections over the mesh"
