# SPDX-License-Identifier: Apache-2.0
"""A process inside a pod that does what the tests tell it.

An agent is a fork of the test driver that has joined a pod's cgroup and network namespace. The
driver calls functions in it; a socket made there is a Remote here, so that a test reads as one
sequence although its two ends are in two pods.
"""
import ctypes
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)

_sockets = {}  # in the agent: handle -> socket
_next_handle = iter(range(1, 1 << 30))


def _keep(sock):
    handle = next(_next_handle)
    _sockets[handle] = sock
    return handle


def _socket_new(family, kind, protocol=0):
    return _keep(socket.socket(family, kind, protocol))


def _recv_to_end(sock, limit=1 << 30):
    """Everything until the end: the bytes, and 0 for a clean end or the errno."""
    parts, size = [], 0
    try:
        while size < limit:
            part = sock.recv(65536)
            if not part:
                return b"".join(parts), 0
            parts.append(part)
            size += len(part)
    except OSError as error:
        return b"".join(parts), error.errno or -1
    return b"".join(parts), None


def _busy(step, sock):
    """Moves bytes until the end. How it ended (0 or the errno), when (monotonic), and when the last byte
    had been moved: a reader learns of a reset when it has read what came before."""
    last = time.monotonic()
    try:
        while step(sock):
            last = time.monotonic()
        return 0, time.monotonic(), last
    except OSError as error:
        return error.errno or -1, time.monotonic(), last


def _drain(sock):
    return _busy(lambda sock: sock.recv(65536), sock)


def _pour(sock, data):
    return _busy(lambda sock: sock.send(data), sock)


def _recv_exactly(sock, size):
    parts = []
    while size:
        part = sock.recv(min(size, 65536))
        if not part:
            raise EOFError(f"the end came {size} bytes early")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _reset(sock):
    """Ends the connection with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


EXTRA = {"drain": _drain, "pour": _pour, "recv_to_end": _recv_to_end, "recv_exactly": _recv_exactly, "reset": _reset}


def _socket_call(handle, method, args):
    sock = _sockets[handle]
    if method == "accept":
        accepted, address = sock.accept()
        accepted.settimeout(sock.gettimeout())
        return _keep(accepted), address
    if method in ("close", "reset"):
        del _sockets[handle]
    if method in EXTRA:
        return EXTRA[method](sock, *args)
    return getattr(sock, method)(*args)


def _close_all():
    for handle in list(_sockets):
        _sockets.pop(handle).close()


def _write_file(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _read_file(path):
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def _serve(channel):
    """The agent's own loop: every call in a thread of its own, answers as they come."""
    lock = threading.Lock()

    def work(number, function, args):
        try:
            answer = (number, True, function(*args))
        except BaseException as error:  # pylint: disable=broad-except
            answer = (number, False, error)
        try:
            data = pickle.dumps(answer)
        except Exception:  # pylint: disable=broad-except
            data = pickle.dumps((number, False, RuntimeError(repr(answer[2]))))
        with lock:
            channel.sendall(struct.pack("!I", len(data)) + data)

    while True:
        header = _recv_exactly(channel, 4)
        request = pickle.loads(_recv_exactly(channel, struct.unpack("!I", header)[0]))
        threading.Thread(target=work, args=request, daemon=True).start()


def _become(cgroup, netns):
    with open(cgroup + "/cgroup.procs", "w", encoding="ascii") as file:
        file.write("0")
    fd = os.open(netns, os.O_RDONLY)
    if LIBC.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns", netns)
    os.close(fd)


class Remote:
    """A socket in an agent: methods of socket.socket, and those of EXTRA."""

    def __init__(self, agent, handle):
        self.agent = agent
        self.handle = handle

    def start(self, method, *args):
        return self.agent.start(_socket_call, self.handle, method, args)

    def accept(self):
        handle, address = self.agent.call(_socket_call, self.handle, "accept", ())
        return Remote(self.agent, handle), address

    def __getattr__(self, method):
        def call(*args):
            return self.agent.call(_socket_call, self.handle, method, args)

        return call


class Agent:
    """The driver's end. The driver must have no threads when it makes one."""

    def __init__(self, cgroup, netns):
        here, there = socket.socketpair()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            try:
                signal.alarm(0)
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
                    signal.signal(number, signal.SIG_DFL)
                keep = there.fileno()
                for name in list(map(int, os.listdir("/proc/self/fd"))):
                    if name > 2 and name != keep:
                        try:
                            os.close(name)
                        except OSError:
                            pass
                _become(cgroup, netns)
                _serve(there)
            except EOFError:
                pass
            except BaseException as error:  # pylint: disable=broad-except
                print(f"# agent of {netns}: {error!r}", file=sys.stderr, flush=True)
            finally:
                os._exit(0)
        there.close()
        self.channel = here
        self.answers = {}
        self.numbers = iter(range(1 << 30))

    def start(self, function, *args):
        """Begins a call; result(number) waits for it."""
        number = next(self.numbers)
        data = pickle.dumps((number, function, args))
        self.channel.sendall(struct.pack("!I", len(data)) + data)
        return number

    def result(self, number):
        while number not in self.answers:
            header = _recv_exactly(self.channel, 4)
            data = pickle.loads(_recv_exactly(self.channel, struct.unpack("!I", header)[0]))
            self.answers[data[0]] = data[1:]
        good, value = self.answers.pop(number)
        if not good:
            raise value
        return value

    def call(self, function, *args):
        return self.result(self.start(function, *args))

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, timeout=40):
        remote = Remote(self, self.call(_socket_new, family, kind))
        remote.settimeout(timeout)
        return remote

    def listen(self, address, port):
        """A listener at the address ('' and '::' too)."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        remote = self.socket(family)
        remote.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        remote.bind((address, port))
        remote.listen(64)
        return remote

    def connect(self, address, port):
        remote = self.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        remote.connect((address, port))
        return remote

    def write_file(self, path, text):
        self.call(_write_file, path, text)

    def read_file(self, path):
        return self.call(_read_file, path)

    def close_all(self):
        self.call(_close_all)

    def kill(self):
        """SIGKILL: the kernel ends its connections."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.channel.close()
