# SPDX-License-Identifier: Apache-2.0
"""The testbed as the tests see it: pods, nodes, daemons, logs and the capture."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from . import tap
from .agent import Agent

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
TESTBED = ROOT + "/scripts/testbed"
MARKER = "KMTLS-PLAINTEXT-MARKER"
PORTS = (5001, 5002, 5003)  # of tools/serve in b, c and d
SERVE_DUAL = 5004  # the same on [::], for IPv4 too


def build_dir():
    path = os.environ.get("O", "build")
    return path if path.startswith("/") else os.path.join(ROOT, path)


class Bed:
    """plain: the same network without daemons. scale: how much more load than usual."""

    def __init__(self, plain, scale=1):
        self.plain = plain
        self.only = False  # not all cases run
        self.scale = scale
        self.share = 1  # a case has the whole load here, or a part of it: see part()
        self.build = build_dir()
        self.tools = self.build + "/tools"
        self.data = os.environ.get("KMTLS_VM_DATA", self.build + "/vm-data")
        self.dir = tempfile.mkdtemp(prefix="kmtls-vm.", dir="/run")
        os.chmod(self.dir, 0o755)
        self.capture = self.dir + "/wire.pcap"
        self.watched = False  # by a capture from the beginning, which the cases of wire search
        self.capturing = False
        self.processes = []
        self.agents = {}
        self.started = {}
        self.is_up = False
        self.up_seconds = 5  # what 'up' takes
        self.baseline = None
        self.env = {}

    # --- the testbed script ---------------------------------------------------------------------

    def testbed(self, *args, check=True, timeout=90):
        environment = dict(os.environ)
        if self.plain:
            environment["KMTLS_TESTBED_NO_DAEMON"] = "1"
        # Its daemons outlive it: they must not hold the pipe, so output goes to a file.
        with tempfile.TemporaryFile("w+", dir=self.dir) as output:
            done = subprocess.run([TESTBED, *args], env=environment, stdout=output, stderr=output,
                                  stdin=subprocess.DEVNULL, timeout=timeout, check=False)
            output.seek(0)
            text = output.read()
        if check:
            tap.check(done.returncode == 0, f"testbed {' '.join(args)}: status {done.returncode}\n{text}")
        return text

    def up(self, *options):
        for line in self.testbed("env").splitlines():
            name, value = line.split("=", 1)
            self.env[name] = value
        self.is_up = True
        # An emulated guest needs more than ten seconds for hundreds of handshakes at once.
        self.testbed("up", *([] if self.plain else ["--handshake-timeout", "60s"]), *options)

    def down(self):
        for agent in self.agents.values():
            agent.kill()
        self.agents.clear()
        for process in self.processes:
            if process.poll() is None:
                process.kill()
        self.testbed("down")
        for process in self.processes:
            process.wait(10)
        self.processes.clear()
        self.started.clear()
        self.capturing = False
        self.is_up = False

    def remove(self):
        if self.is_up:
            self.down()
        shutil.rmtree(self.dir, ignore_errors=True)

    def part(self, count):
        """Of a load of the quick run: all of it, or a third where another kernel's guest has all of it."""
        return -(-count // self.share) * self.scale

    def address(self, place, version=4):
        return self.env[f"{place}{version}"]

    def at(self, place, port, version=4):
        """ADDRESS:PORT as the tools take it."""
        text = self.address(place, version)
        return f"[{text}]:{port}" if version == 6 else f"{text}:{port}"

    # --- programs and agents inside ----------------------------------------------------------------

    def enter(self, place):
        return [self.tools + "/enter", f"{self.env['cgroup']}/{place}", f"/run/netns/kt-{place}"]

    def run(self, place, *argv, timeout=60, user=None, env=None, status=0):
        """Runs a program to its end; its output. status: the exit status it must have, None for any."""
        command = self.enter(place) + (["-u", user] if user else []) + list(argv)
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout,
                                  stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}, check=False)
        except subprocess.TimeoutExpired as error:
            raise tap.Failure(f"{argv[0]} in {place} is not done after {timeout} s: "
                              f"{(error.stdout or b'')[-300:]!r} {(error.stderr or b'')[-300:]!r}") from None
        if status is not None and done.returncode != status:
            raise tap.Failure(f"{' '.join(argv)[:200]} in {place}: status {done.returncode}\n"
                              f"{done.stdout[-800:]}{done.stderr[-800:]}")
        return done.stdout if status is not None else done

    def spawn(self, place, *argv, user=None, output=None):
        """Starts a program that stays; it is ended with the testbed."""
        command = self.enter(place) + (["-u", user] if user else []) + list(argv)
        with open(output or self.dir + "/spawned.log", "ab") as file:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=file)
        self.processes.append(process)
        return process

    def agent(self, place):
        if place not in self.agents:
            self.agents[place] = self.new_agent(place)
        return self.agents[place]

    def new_agent(self, place):
        """One of its own, for tests that kill it."""
        return Agent(f"{self.env['cgroup']}/{place}", f"/run/netns/kt-{place}")

    def close_sockets(self):
        for agent in self.agents.values():
            agent.close_all()

    def wait_port(self, place, port, version=4, seconds=40):
        """Until something listens, by the kernel's table, without connecting to it."""
        path = "/proc/thread-self/net/tcp6" if version == 6 else "/proc/thread-self/net/tcp"
        pattern = re.compile(rf":{port:04X} [0-9A-F]+:0000 0A ")
        tap.until(lambda: pattern.search(self.agent(place).read_file(path)),
                  f"something listens on port {port} of {place}", seconds)

    def serve(self, *places):
        """tools/serve on PORTS of the pods, started once."""
        for place in places:
            if place in self.started:
                continue
            ports = [self.at(place, port) for port in PORTS]
            if self.env.get(place + "6"):
                ports += [self.at(place, port, 6) for port in PORTS] + [f"[::]:{SERVE_DUAL}"]
            self.started[place] = self.spawn(place, self.tools + "/serve", *ports)
            self.wait_port(place, PORTS[-1])

    def load(self, place, kind, *args, timeout=100, status=0):
        """tools/load; its JSON."""
        done = self.run(place, self.tools + "/load", kind, *map(str, args), timeout=timeout, status=None)
        tap.check(done.stdout.startswith("{"), f"load {kind}: status {done.returncode} {done.stderr}")
        result = json.loads(done.stdout)
        if status is not None:
            tap.check(done.returncode == status,
                      f"load {kind} from {place}: {result['failed']} of {result['failed'] + result['ok']} failed, "
                      f"first: {result['error']}")
        return result

    # --- daemons -------------------------------------------------------------------------------------

    def kmtls(self, node, *args):
        """The command line's JSON."""
        done = subprocess.run([self.build + "/kmtls", "--json", "--socket",
                               f"{self.env['state']}/n{node}/control.sock", *args],
                              capture_output=True, text=True, timeout=30, check=False)
        tap.check(done.returncode == 0, f"kmtls {' '.join(args)} on node {node}: status {done.returncode} "
                                        f"{done.stdout}{done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def counters(self, node):
        return self.kmtls(node, "status")["counters"]

    def counter(self, node, name):
        return self.counters(node).get(name, 0)

    def flow_totals(self, node):
        return self.kmtls(node, "status")["flows"]

    def flows(self, node):
        return self.kmtls(node, "flows")

    def configure(self, node, key, value):
        """Changes or adds a line of the node's configuration, for its next start. None: takes it away."""
        path = f"{self.env['state']}/n{node}.yaml"
        with open(path, encoding="ascii") as file:
            lines = [line for line in file if not line.startswith(key + ": ")]
        with open(path, "w", encoding="ascii") as file:
            file.write(("" if value is None else f"{key}: {value}\n") + "".join(lines))

    def daemon_pid(self, node):
        with open(f"{self.env['state']}/n{node}.pid", encoding="ascii") as file:
            return int(file.read())

    def worker_pid(self, node):
        """The keeper's youngest child that lives; None if it has none just now."""
        keeper = self.daemon_pid(node)
        try:
            with open(f"/proc/{keeper}/task/{keeper}/children", encoding="ascii") as file:
                children = file.read().split()
        except OSError:
            return None
        alive = []
        for child in children:
            try:
                with open(f"/proc/{child}/stat", encoding="ascii", errors="replace") as file:
                    if file.read().rpartition(")")[2].split()[0] not in "ZX":
                        alive.append(int(child))
            except OSError:
                pass
        return alive[-1] if alive else None

    def pids(self, node):
        """Keeper and worker."""
        return [pid for pid in (self.daemon_pid(node), self.worker_pid(node)) if pid]

    def kill_worker(self, node):
        """SIGKILL; returns when the next one answers."""
        worker = self.worker_pid(node)
        tap.check(worker, f"the keeper of node {node} has no worker")
        os.kill(worker, signal.SIGKILL)
        self.wait_worker(node, worker)

    def wait_worker(self, node, former=None, seconds=20):
        """Until a worker other than the former answers; its process id."""

        def answers():
            worker = self.worker_pid(node)
            return worker and worker != former and self.kmtls(node, "status") and worker

        return tap.until(answers, f"node {node} has a worker that answers", seconds)

    def wait_upgraded(self, node, former, seconds=40):
        """Until a keeper other than the former serves; the testbed is told of it."""

        def other():
            done = subprocess.run([self.build + "/kmtls", "--json", "--socket", f"{self.env['state']}/n{node}/control.sock",
                                   "status"], capture_output=True, text=True, timeout=30, check=False)
            keeper = json.loads(done.stdout)["keeper"] if done.returncode == 0 else former
            return keeper if keeper != former else None

        keeper = tap.until(other, f"node {node} has another keeper", seconds)
        with open(f"{self.env['state']}/n{node}.pid", "w", encoding="ascii") as file:
            file.write(f"{keeper}\n")

    def log_size(self, node):
        return os.path.getsize(f"{self.env['state']}/n{node}.log")

    def log(self, node, since=0):
        with open(f"{self.env['state']}/n{node}.log", "rb") as file:
            file.seek(since)
            return file.read().decode(errors="replace")

    def wait_log(self, node, since, *parts, seconds=10):
        """The first log line that has all the parts."""

        def find():
            for line in self.log(node, since).splitlines():
                if all(part in line for part in parts):
                    return line
            return None

        return tap.until(find, f"a line with {' and '.join(parts)} in the log of node {node}", seconds)

    def descriptors(self, node):
        """What the daemon has open, counted by kind: sockets, pipes and all."""
        counts = {"all": 0, "socket": 0, "pipe": 0}
        base = f"/proc/{self.daemon_pid(node)}/fd"
        for name in os.listdir(base):
            try:
                target = os.readlink(f"{base}/{name}")
            except OSError:
                continue
            counts["all"] += 1
            kind = target.split(":")[0]
            if kind in counts:
                counts[kind] += 1
        return counts

    def daemon_socket(self, node, local, remote):
        """A duplicate of the daemon's socket with these (address, port) ends. The caller closes it."""
        for candidate in sockets_of(self.daemon_pid(node)):
            try:
                if (candidate.getsockname()[:2], candidate.getpeername()[:2]) == (local, remote):
                    return candidate
            except (OSError, TypeError):
                pass
            candidate.close()
        raise tap.Failure(f"the daemon of node {node} has no socket {local} - {remote}")

    # --- the wire ------------------------------------------------------------------------------------

    def start_capture(self):
        self.testbed("capture", self.capture)
        self.capturing = True

    def stop_capture(self):
        self.capturing = False
        return self.testbed("capture", "--stop")

    def wirecheck(self, file, markers, excluded=()):
        """tools/wirecheck over the pods' addresses: its JSON, with found as a dictionary."""
        command = [self.tools + "/wirecheck"]
        for marker in markers:
            command += ["-m", marker]
        for port in excluded:
            command += ["-x", str(port)]
        for pod in "acbd":
            for version in (4, 6):
                if self.env[f"{pod}{version}"]:
                    command += ["-a", self.env[f"{pod}{version}"]]
        done = subprocess.run([*command, file], capture_output=True, text=True, timeout=110, check=False)
        tap.check(done.returncode == 0, f"wirecheck: {done.stderr}")
        result = json.loads(done.stdout)
        result["found"] = dict(zip(markers, result["found"]))
        return result

    def listen_on_wire(self, node, interface, file):
        """A capture of its own on an interface of a node; stop(process) ends it."""
        messages = file + ".log"
        open(messages, "w", encoding="ascii").close()
        process = self.spawn(node, "tcpdump", "-Z", "root", "-n", "-i", interface, "-s", "0", "-U", "-w",
                             file, output=messages)

        def heard():
            with open(messages, encoding="ascii") as text:
                return "listening on" in text.read()

        tap.until(heard, f"tcpdump listens on {interface} of {node}")
        return process

    @staticmethod
    def stop_listening(process):
        time.sleep(1.3)  # tcpdump gets packets in blocks, at least once a second
        process.send_signal(signal.SIGINT)
        process.wait(20)


def sockets_of(pid):
    """Duplicates of a process's sockets, each of which the caller closes."""
    pidfd = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                    continue
            except OSError:
                continue
            fd = pidfd_getfd(pidfd, int(name))
            if fd < 0:
                continue
            try:
                yield socket.socket(fileno=fd)
            except OSError:
                os.close(fd)
    finally:
        os.close(pidfd)


def pidfd_getfd(pidfd, fd):
    from .agent import LIBC  # the one place that needs a system call by number

    return LIBC.syscall(438, pidfd, fd, 0)
