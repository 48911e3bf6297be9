# SPDX-License-Identifier: Apache-2.0
"""Two pods joined by one link, the same for all arms:

    kb-a  eth0 10.88.0.10  ────────────────  eth0 10.88.0.11  kb-b

Clients run in a, applications in b, a proxy or a daemon of each side beside them. kb-1 and kb-2 are the
network namespaces in which the nodes' daemons live; they have nothing to do with the packets.
"""
import contextlib
import ctypes
import os
import re
import shutil
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
DIR = "/run/kmtls-bench"
ADDRESS = {"a": "10.88.0.10", "b": "10.88.0.11"}
PODS = ("a", "b")
NODES = ("1", "2")
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
# What an application listens on in b. A proxy's TLS is 10000 higher, its plaintext side in a the same port.
PORTS = {"load": 7000, "redis": 6379, "web": 8080, "postgresql": 5432}
SUITES = {"aes128": "TLS_AES_128_GCM_SHA256", "aes256": "TLS_AES_256_GCM_SHA384"}


class Trouble(Exception):
    """Something that must work did not."""


def wire_port(port):
    return port + 10000


def build_dir():
    path = os.environ.get("O", "build")
    return path if path.startswith("/") else os.path.join(ROOT, path)


def data_dir():
    return os.environ.get("KMTLS_VM_DATA", build_dir() + "/vm-data")


def run(*command, **options):
    """A program that must succeed; its stdout."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace",
                          **{"timeout": 300, **({} if "input" in options else {"stdin": subprocess.DEVNULL}), **options})
    if done.returncode:
        raise Trouble(f"{' '.join(command)[:160]}: status {done.returncode}: {(done.stderr or done.stdout)[-600:]}")
    return done.stdout


def until(probe, what, seconds=600):
    """In an --icount guest seconds go by while a file is read from the host: be patient."""
    end = time.monotonic() + seconds
    while not probe():
        if time.monotonic() > end:
            raise Trouble(f"not within {seconds} s: {what}")
        time.sleep(0.02)


HOME = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)  # of the one thread that goes elsewhere


def set_namespace(fd):
    if LIBC.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def inside(place):
    """This thread is in the network namespace, not in the control group, of a pod. Sockets made there stay."""
    with open(f"/run/netns/kb-{place}", "rb") as file:
        set_namespace(file.fileno())
    try:
        yield
    finally:
        set_namespace(HOME)


def listens(place, port):
    pattern = re.compile(rf":{port:04X} [0-9A-F]+:0000 0A ")
    with inside(place), open("/proc/thread-self/net/tcp", encoding="ascii") as file:
        return bool(pattern.search(file.read()))


def wait_port(place, port, process=None):
    def ready():
        if process and process.poll() is not None:
            raise Trouble(f"{process.args[3:5]} ended with {process.returncode} before it listened")
        return listens(place, port)

    until(ready, f"something listens on port {port} of {place}")


def descendants(pid):
    """The process and all below it."""
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                for child in file.read().split():
                    found += descendants(int(child))
    except OSError:
        pass
    return found


class Bed:
    def __init__(self):
        self.cgroup = self._find_cgroup() + "/kmtls-bench"
        self.tools = build_dir() + "/tools"
        self.dir = DIR
        self.log = DIR + "/log"
        self.pki = DIR + "/pki"

    @staticmethod
    def _find_cgroup():
        with open("/proc/self/mounts", encoding="ascii") as file:
            for line in file:
                if line.split()[2] == "cgroup2":
                    return line.split()[1]
        raise Trouble("no cgroup v2 file system is mounted")

    def up(self):
        if not os.path.exists(data_dir() + "/bench-pki/server.pem"):
            raise Trouble("there are no certificates: run selftests/vm/prepare")
        self.down()
        os.makedirs(DIR, 0o755)
        shutil.copytree(data_dir() + "/bench-pki", self.pki)
        for name in ("ktls.so", "suites.so"):  # where users other than root find them
            shutil.copy(f"{self.tools}/{name}", DIR)
        for name in (*PODS, *NODES, "proxy"):
            os.makedirs(f"{self.cgroup}/{name}")
        run("ip", "-batch", "-", input="".join(f"netns add kb-{name}\n" for name in (*PODS, *NODES)) +
            "link add eth0 netns kb-a type veth peer name eth0 netns kb-b\n")
        for name in (*PODS, *NODES):
            commands = "link set lo up\n"
            if name in PODS:
                commands += f"addr add {ADDRESS[name]}/24 dev eth0\nlink set eth0 up\n"
            run("ip", "-n", "kb-" + name, "-batch", "-", input=commands)
        for name in PODS:
            with inside(name):
                for key, value in (("ip_local_port_range", "10240 65000"), ("tcp_max_syn_backlog", "8192")):
                    with open("/proc/sys/net/ipv4/" + key, "w", encoding="ascii") as file:
                        file.write(value)

    def down(self):
        for name in (*PODS, *NODES, "proxy"):
            path = f"{self.cgroup}/{name}"
            if os.path.isdir(path):
                with open(path + "/cgroup.kill", "w", encoding="ascii") as file:
                    file.write("1")
                until(lambda path=path: self._removed(path), f"{path} is gone", 60)
            if os.path.exists("/run/netns/kb-" + name):
                run("ip", "netns", "del", "kb-" + name)
        if os.path.isdir(self.cgroup):
            os.rmdir(self.cgroup)
        shutil.rmtree("/sys/fs/bpf/kmtls-bench", ignore_errors=True)
        shutil.rmtree(DIR, ignore_errors=True)

    @staticmethod
    def _removed(path):
        try:
            for name in os.listdir(path):
                if os.path.isdir(f"{path}/{name}"):
                    os.rmdir(f"{path}/{name}")
            os.rmdir(path)
        except OSError:
            return False
        return True

    def command(self, place, *argv, group=None):
        """What runs a program in the network of a place, in the control group of that or of another one."""
        return [self.tools + "/enter", f"{self.cgroup}/{group or place}", f"/run/netns/kb-{place}", *argv]

    def run(self, place, *argv, env=None, timeout=3600):
        return run(*self.command(place, *argv), env={**os.environ, **(env or {})}, timeout=timeout)

    def spawn(self, place, *argv, env=None, group=None, output=None, pipe=False):
        """Starts a program that stays. Whoever starts it stops it."""
        with open(output or self.log, "ab") as file:
            return subprocess.Popen(self.command(place, *argv, group=group), stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE if pipe else file, stderr=file,
                                    env={**os.environ, **(env or {})})

    @staticmethod
    def stop(process):
        if process.stdin:
            process.stdin.close()
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(60)
        if process.stdout:
            process.stdout.close()

    def show_log(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                return file.read()[-1500:]
        except OSError:
            return ""
