# SPDX-License-Identifier: Apache-2.0
"""What each case gets: a directory with a socket, agents on it, and clients that are ended afterwards."""
import json
import subprocess
import threading
import time

import workload_pb2
from lib import tap
from lib.tap import Failure

from . import pki, servers

WORKLOAD = "SpiffeWorkloadAPI"
TRUST_DOMAIN = "example.org"
ID = "spiffe://example.org/ns/shop/sa/web"


def until(probe, what, seconds=20):
    """lib.tap's, but a hundred looks a second: what is waited for here takes milliseconds."""
    return tap.until(probe, what, seconds, 0.01)


class Client:
    """agentctl, with what it says."""

    def __init__(self, arguments, environment):
        self.events = []
        self.log = []
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, bufsize=1,
                                        env=environment)
        for stream, read in ((self.process.stdout, self._read_events), (self.process.stderr, self._read_log)):
            threading.Thread(target=read, args=(stream,), daemon=True).start()

    def _read_events(self, stream):
        for line in stream:
            self.events.append((time.monotonic(), json.loads(line)))

    def _read_log(self, stream):
        for line in stream:
            self.log.append(line.rstrip("\n"))

    def ask(self, command, seconds=10):
        """Sends a command, returns the event that answers it."""
        event = command.split()[0]
        before = len(self.events)
        self.process.stdin.write(command + "\n")
        return until(lambda: next((e for _, e in self.events[before:] if e["event"] == event), None),
                     f"an answer to {command}: {self.log[-20:]}", seconds)

    def tell(self, command):
        self.process.stdin.write(command + "\n")

    def look(self, key=""):
        return self.ask(f"look {key}".strip())

    def state(self, state, seconds=10, key=""):
        """Waits for a state, returns the view."""

        def probe():
            view = self.look(key)
            if view["state"] != state:
                raise Failure(str(view))
            return view

        return until(probe, f"state {state}", seconds)

    def changes(self, key=0):
        return [e["identity"] for _, e in self.events if e["event"] == "changed" and e["key"] == key]

    def serial(self, serial, seconds=10, key=0):
        """Waits for an SVID by its serial number, returns the identity."""
        return until(lambda: next((i for i in self.changes(key) if i and i["serial"] == serial), None),
                     f"SVID {serial}; {self.log[-5:]}", seconds)

    def refuses(self, sentence, seconds=10):
        """Waits until the view's sentence has these words, returns the view."""

        def probe():
            view = self.look()
            if sentence not in view["why"]:
                raise Failure(str(view))
            return view

        return until(probe, f"{sentence!r}", seconds)

    def count(self, secret):
        """How often these bytes are in its memory, other than what sanitizers only reserve."""
        hits = 0
        with open(f"/proc/{self.process.pid}/maps") as maps, \
                open(f"/proc/{self.process.pid}/mem", "rb", buffering=0) as memory:
            for line in maps:
                place, access = line.split()[:2]
                begin, end = (int(part, 16) for part in place.split("-"))
                if not access.startswith("rw") or end - begin > 1 << 30:
                    continue
                try:
                    memory.seek(begin)
                    hits += memory.read(end - begin).count(secret)
                except (OSError, ValueError, OverflowError):
                    pass  # not to be read, as guard pages
        return hits

    def close(self):
        """Exit status: sanitizers say here what they found, leaks too."""
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


class Bed:
    def __init__(self, agentctl, directory, build):
        self.agentctl, self.directory, self.build = agentctl, directory, build
        self.path = directory + "/agent.sock"
        self.clients, self.servers = [], []

    def client(self, *options, kind="workload", path=None, environment=None, **named):
        arguments = [str(self.agentctl), kind, path or self.path, "min=100", "max=800", "refused=1500", *options]
        arguments += [f"{name}={value}" for name, value in named.items()]
        client = Client(arguments, environment)
        self.clients.append(client)
        return client

    def agent(self, service, methods, path=None):
        server = servers.Agent(path or self.path, service, methods)
        self.servers.append(server)
        return server

    def raw(self, talk):
        server = servers.RawAgent(self.path, talk)
        self.servers.append(server)
        return server

    def workload_agent(self, answer, bundles=None):
        """answer, bundles: functions of a Stream."""
        return self.agent(WORKLOAD, {
            "FetchX509SVID": (workload_pb2.Request, answer),
            "FetchX509Bundles": (workload_pb2.Request, bundles or (lambda stream: None))})

    def said(self):
        return "\n".join(line for client in self.clients for line in client.log[-40:])

    def finish(self):
        """For the end of a case: clients end well."""
        for client in self.clients:
            status = client.close()
            if status:
                raise Failure(f"agentctl ended with {status}: " + "\n".join(client.log[-60:]))
        self.clients.clear()

    def close(self):
        for client in self.clients:
            client.close()
        for server in self.servers:
            try:
                server.stop()
            except OSError:
                pass


class Workload:
    """An SVID and the answer that has it, to be changed before it is sent."""

    def __init__(self, authority=None, spiffe_id=ID, hint="", **issue):
        self.authority = authority or pki.Authority(TRUST_DOMAIN)
        leaf, key, self.serial = self.authority.issue(spiffe_id, **issue)
        self.key = key
        self.svid = workload_pb2.Svid(id=spiffe_id, certificates=leaf, key=key,
                                      bundle=self.authority.der, hint=hint)
        self.answer = workload_pb2.SvidAnswer(svids=[self.svid])

    @property
    def first(self):
        return self.answer.svids[0]
