# SPDX-License-Identifier: Apache-2.0
"""An agent by grpc-go, the library that SPIRE's agent is made with: its HTTP/2, its way to leave, its limit
on pings."""
import base64
import os
import pathlib
import shutil
import subprocess
import threading

import workload_pb2
from lib.tap import Failure, Skip, case, check, equal

from support import pki
from support.bed import Workload, until

SOURCE = pathlib.Path(__file__).resolve().parents[1] / "go"


def build(bed):
    """Builds it once. Skip, with Go's own words, where the modules are not to be had."""
    program = bed.build / "agent-go"
    newest = max(path.stat().st_mtime for path in SOURCE.iterdir())
    if program.exists() and program.stat().st_mtime > newest:
        return program
    go = shutil.which("go") or "/usr/local/go/bin/go"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    for fatal, arguments in ((False, ["mod", "download"]), (True, ["build", "-o", str(program), "."])):
        try:
            got = subprocess.run(["nice", go, *arguments], cwd=SOURCE, env=environment, capture_output=True, text=True,
                                 timeout=900, check=False)
        except (OSError, subprocess.TimeoutExpired) as trouble:
            raise Skip(f"no grpc-go: {trouble}") from trouble
        if got.returncode:
            words = " ".join((got.stderr + got.stdout).split())[-300:]
            raise Failure(words) if fatal else Skip(f"no grpc-go: {words}")
    os.utime(program)
    return program


class GoAgent:
    def __init__(self, bed):
        if os.path.exists(bed.path):
            os.unlink(bed.path)
        self.process = subprocess.Popen([str(build(bed)), bed.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)
        self.said = []
        threading.Thread(target=lambda: self.said.extend(self.process.stdout), daemon=True).start()
        bed.servers.append(self)
        until(lambda: self.said, "the agent")

    def answer(self, method, message):
        words = base64.b64encode(message.SerializeToString()).decode()
        self.process.stdin.write(f"answer {method} {words}\n")

    def stop(self):
        self.process.kill()
        self.process.wait()


@case("grpc-go: the first answer, rotation, bundles, 2 MB", timeout=960)
def rotation(bed):
    authority = pki.Authority("example.org")
    agent = GoAgent(bed)
    client = bed.client()
    for _ in range(10):
        new = Workload(authority)
        agent.answer("FetchX509SVID", new.answer)
        client.serial(new.serial)
    answer = workload_pb2.BundlesAnswer()
    answer.bundles["spiffe://example.org"] = authority.der
    answer.bundles["spiffe://other.example"] = pki.Authority("other.example").der
    agent.answer("FetchX509Bundles", answer)
    until(lambda: client.changes()[-1]["bundles"] == {"example.org": 1, "other.example": 1}, "bundles")
    new.answer.crls.extend([authority.crl()] * 1000)
    # Larger than every window of HTTP/2: it comes only if we say that we have read.
    new.answer.federated["spiffe://large.example"] = b"\0" * (2 << 20)
    agent.answer("FetchX509SVID", new.answer)
    until(lambda: client.changes()[-1]["crls"] == 1000, "the large one")
    equal(client.look()["tries"], 1, "connections")
    bed.finish()


@case("grpc-go: an agent that takes its leave is not held up, and the next one is asked", timeout=960)
def leave(bed):
    has = Workload()
    agent = GoAgent(bed)
    agent.answer("FetchX509SVID", has.answer)
    client = bed.client()
    client.serial(has.serial)
    agent.process.stdin.write("leave\n")
    until(lambda: "left\n" in agent.said, "the end of a graceful stop", 5)
    until(lambda: any("the agent takes its leave (NO_ERROR)" in line for line in client.log), "a line that says so")
    equal(client.ask("get")["identity"]["serial"], has.serial, "the SVID that stays")
    agent.stop()
    agent = GoAgent(bed)
    new = Workload(has.authority)
    agent.answer("FetchX509SVID", new.answer)
    client.serial(new.serial)
    bed.finish()


@case("grpc-go: too many pings, were we to send them", timeout=960)
def pings(bed):
    has = Workload()
    agent = GoAgent(bed)
    agent.answer("FetchX509SVID", has.answer)
    client = bed.client(ping=100)
    client.serial(has.serial)
    until(lambda: any("the agent takes its leave (ENHANCE_YOUR_CALM)" in line for line in client.log),
          "a line that says so")
    check(client.ask("get")["identity"], "the SVID that stays")
    bed.finish()
