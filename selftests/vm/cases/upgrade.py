# SPDX-License-Identifier: Apache-2.0
"""Upgrades that cannot work: the old version goes on, and says why. And what the service manager hears."""
import json
import os
import re
import signal
import socket
import subprocess
import time

from lib.bed import MARKER
from lib.tap import Skip, case, check, equal, until

from .connect import end_dial, repeated, start_dial
from .policy import connect_and_talk
from .streams import pair


class Stream:
    """A connection from a to b that must live through what is done meanwhile."""

    def __init__(self, bed, version, port):
        self.client, self.server = pair(bed, version, "a", "b", port)

    def check(self):
        for source, sink in ((self.client, self.server), (self.server, self.client)):
            source.sendall(MARKER.encode())
            equal(sink.recv_exactly(len(MARKER)), MARKER.encode(), "what arrives")


def command(bed, *argv, seconds=80):
    done = subprocess.run([bed.build + "/kmtls", "--socket", f"{bed.env['state']}/n1/control.sock", *argv], capture_output=True,
                          text=True, timeout=seconds, check=False)
    return done.returncode, done.stderr.strip()


def refused(bed, streams, what, *argv):
    """An upgrade that is rolled back: the message, the same keeper, all flows and new ones."""
    keeper, since = bed.daemon_pid(1), bed.log_size(1)
    status, said = command(bed, "upgrade", *argv)
    equal(status, 1, f"{what}: exit status ({said})")
    after = bed.kmtls(1, "status")
    equal((after["keeper"], after["upgrade"]["outcome"]), (keeper, "rolled-back"), what)
    check(after["upgrade"]["why"] and after["upgrade"]["why"] in said, f"{what}: {said} and {after['upgrade']}")
    bed.wait_log(1, since, "not upgraded")
    for stream in streams:
        stream.check()
    connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), 5655, MARKER.encode())
    return said


@case("an upgrade to what does not get ready is rolled back, says why, and no flow notices", mesh=True, timeout=120,
      kernel="6.12")
def rolled_back(bed):
    streams = [Stream(bed, version, 5650 + version) for version in (4, 6)]
    said = refused(bed, streams, "a program that ends at once", "--program", "/bin/true")
    check("died before it was ready" in said, said)

    script = bed.dir + "/no-program"
    with open(script, "w", encoding="ascii") as file:
        file.write("this is no program\n")
    os.chmod(script, 0o755)
    said = refused(bed, streams, "a file that cannot be executed", "--program", script)
    check("format" in said.lower(), said)

    bed.configure(1, "no_such_key", "1")
    said = refused(bed, streams, "a configuration with an error")
    check("no_such_key" in said, said)
    bed.configure(1, "no_such_key", None)

    settings = f"{bed.env['pins']}/n1/settings"
    found = json.loads(subprocess.run(["bpftool", "-j", "map", "dump", "pinned", settings], capture_output=True, text=True,
                                      check=True).stdout)
    value = found[0]["value"]
    write = ["bpftool", "map", "update", "pinned", settings, "key", "0", "0", "0", "0", "value"]
    subprocess.run([*write, "0xfe", *value[1:]], check=True)
    said = refused(bed, streams, "maps of another version")
    check("another version" in said, said)
    subprocess.run([*write, *value], check=True)

    status, said = command(bed, "upgrade", "--program", bed.dir + "/nothing-there")
    check(status in (1, 2) and "nothing-there" in said, f"{status} {said}")
    bed.testbed("upgrade", "1")  # and one that works
    for stream in streams:
        stream.check()


@case("a successor that hangs is given up after a minute", mesh=True, timeout=150, kernel="6.12")
def hangs(bed):
    if bed.scale == 1:
        raise Skip("takes long: --long")
    script = bed.dir + "/hangs"
    with open(script, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\nexec sleep 1000\n")
    os.chmod(script, 0o755)
    said = refused(bed, [Stream(bed, 4, 5656)], "a program that says nothing", "--program", script)
    check("not ready after 60 seconds" in said, said)


@case("new connections while both nodes are upgraded in turn: none fails, hardly a handshake is cut", mesh=True, timeout=240,
      kernel="6.12")
def handshakes(bed):
    """An upgrade waits for handshakes that are half done; those not begun wait for the new daemon."""
    bed.serve("b", "c", "d")
    before = sum(bed.counters(node).get("interrupted", 0) for node in (1, 2))
    rounds = 10 if bed.scale > 1 else 3
    seconds = 8 * rounds
    dialing = start_dial(bed, "a", repeated(bed), seconds=seconds, quiet=True)
    end = time.monotonic() + seconds
    upgraded = 0
    while time.monotonic() < end - 4:
        for node in (1, 2):
            bed.testbed("upgrade", str(node))
        upgraded += 1
    failed, totals = end_dial(dialing, 120)
    tried = sum(totals["totals"].values())
    check(tried >= 10 * upgraded, f"only {tried} connects in {seconds} s")
    equal(failed[:3], [], f"what failed of {tried}, {len(failed)} in all")
    cut = sum(bed.counters(node).get("interrupted", 0) for node in (1, 2)) - before
    check(cut * 10 <= tried, f"{cut} handshakes of {tried} were cut")  # where the machine stands still for seconds
    return f"{tried} connects, slowest {totals['slowest']:.0f} ms; {upgraded} upgrades of both, {cut} handshakes cut"


@case("a second daemon on the same run_dir is refused, and touches nothing", mesh=True, kernel="6.12")
def second(bed):
    stream = Stream(bed, 4, 5657)
    done = subprocess.run([bed.build + "/kmtlsd", "--config", f"{bed.env['state']}/n1.yaml"], capture_output=True, text=True,
                          timeout=30, check=False)
    equal(done.returncode, 1, "its exit status")
    check("another kmtlsd runs with this run_dir" in done.stderr, done.stderr)
    stream.check()


@case("workers that die at once: the keeper waits longer each time and stays, and flows move on", mesh=True, timeout=60,
      kernel="6.12")
def dying(bed):
    """A worker serves flows first; then it fails where its control socket is a directory."""
    stream, since, keeper = Stream(bed, 6, 5658), bed.log_size(1), bed.daemon_pid(1)
    path = f"{bed.env['state']}/n1/control.sock"
    os.rename(path, path + ".away")
    os.mkdir(path)
    os.kill(bed.worker_pid(1), signal.SIGKILL)
    until(lambda: bed.log(1, since).count("workers die at once") >= 4, "the keeper tries again and again", 20)
    stream.check()
    waits = [int(wait) for wait in re.findall(r"next_ms=(\d+)", bed.log(1, since))]
    check(waits == sorted(waits) and waits[3] >= 4 * waits[0], f"it waits longer each time: {waits}")
    os.rmdir(path)
    os.rename(path + ".away", path)
    bed.wait_worker(1)
    equal(bed.daemon_pid(1), keeper, "the keeper")
    stream.check()


@case("SIGHUP during an upgrade is not lost: the configuration is read once more", mesh=True, timeout=120,
      kernel="6.12")
def hangups(bed):
    stream, former, since = Stream(bed, 4, 5653), bed.daemon_pid(1), bed.log_size(1)
    os.kill(former, signal.SIGHUP)
    bed.wait_log(1, since, 'msg="upgrading"')
    os.kill(former, signal.SIGHUP)
    until(lambda: bed.log(1, since).count("taken over") == 2, "a second successor takes over", 60)
    bed.wait_upgraded(1, former)
    stream.check()


@case("a control socket that moves leaves nothing at its old path", mesh=True, timeout=120,
      kernel="6.12")
def moved_socket(bed):
    old, new = (f"{bed.env['state']}/n1/{name}.sock" for name in ("control", "moved"))
    stream, former = Stream(bed, 6, 5654), bed.daemon_pid(1)
    bed.configure(1, "control_socket", new)
    os.kill(former, signal.SIGHUP)
    until(lambda: os.path.exists(new) and not os.path.exists(old), "only the new path is there", 60)
    bed.configure(1, "control_socket", None)
    said = subprocess.run([bed.build + "/kmtls", "--json", "--socket", new, "status"], capture_output=True, text=True,
                          timeout=30, check=True).stdout
    os.kill(json.loads(said)["keeper"], signal.SIGHUP)
    until(lambda: os.path.exists(old), "the usual path is there again", 60)
    bed.wait_upgraded(1, former)
    check(not os.path.exists(new), "the other path has gone")
    stream.check()


@case("the service manager hears READY, RELOADING, MAINPID, WATCHDOG and STOPPING", mesh=True, timeout=120,
      kernel="6.12")
def notified(bed):
    path = bed.dir + "/notify.sock"
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(path)
    heard = []

    def hears(*words, seconds=20):
        end = time.monotonic() + seconds
        while not all(any(word in text for text in heard) for word in words):
            manager.settimeout(max(0.1, end - time.monotonic()))
            try:
                heard.append(manager.recv(4096).decode())
            except TimeoutError:
                check(False, f"not heard: {words} in {heard}")

    bed.testbed("stop", "1")
    os.environ.update(NOTIFY_SOCKET=path, WATCHDOG_USEC="600000")
    try:
        bed.testbed("start", "1")
    finally:
        del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]
    hears("READY=1", "WATCHDOG=1")
    heard.clear()
    stream, former = Stream(bed, 4, 5659), bed.daemon_pid(1)
    os.kill(former, signal.SIGHUP)
    hears("RELOADING=1", "MAINPID=", "READY=1", seconds=40)
    bed.wait_upgraded(1, former)
    check(any(f"MAINPID={bed.daemon_pid(1)}" in text for text in heard), f"{bed.daemon_pid(1)} in {heard}")
    stream.check()
    heard.clear()
    hears("WATCHDOG=1")
    bed.testbed("stop", "1")
    hears("STOPPING=1")
    bed.testbed("start", "1")
    connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), 5655, MARKER.encode())
