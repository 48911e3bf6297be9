# SPDX-License-Identifier: Apache-2.0
"""Real programs: what runs in b, and what a request to it costs from a. A program is run twice, with less and with
more to do: the difference is the requests' own, without the start of either program. wrk is looked at while it runs."""
import contextlib
import glob
import os
import re
import signal
import socket
import subprocess
import time

from .bed import PORTS, Trouble, data_dir, run, until, wait_port
from .loads import result

WEB = """
worker_processes 1;
daemon off;
user root;
pid {dir}/web.pid;
error_log stderr warn;
worker_rlimit_nofile 20000;
env BENCH_KTLS;
env BENCH_SUITE;
events {{ worker_connections 4096; }}
http {{
	access_log off;
	sendfile on;
	tcp_nopush on;
	keepalive_requests 100000000;
	client_body_temp_path {dir}/web-1;
	proxy_temp_path {dir}/web-2;
	fastcgi_temp_path {dir}/web-3;
	uwsgi_temp_path {dir}/web-4;
	scgi_temp_path {dir}/web-5;
	server {{ listen {port} backlog=4096; root {dir}/www; }}
	server {{ listen unix:{status}; stub_status; }}
}}
"""
OBJECTS = {"small": 612, "100k": 102400}


def status_path(session):
    return session.bed.dir + "/web-status.sock"


def start_load(session):
    return session.bed.spawn("b", session.bed.tools + "/benchload", "serve", f"0.0.0.0:{PORTS['load']}",
                             env=session.arm.environment)


def start_redis(session):
    return session.bed.spawn("b", "redis-server", "--port", str(PORTS["redis"]), "--bind", "0.0.0.0", "--protected-mode",
                             "no", "--save", "", "--dir", session.bed.dir, env=session.arm.environment)


def start_web(session):
    where = session.bed.dir + "/www"
    os.makedirs(where, exist_ok=True)
    for name, size in OBJECTS.items():
        with open(f"{where}/{name}", "wb") as file:
            file.write(b"x" * size)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(status_path(session))  # of a server that was killed
    path = session.bed.dir + "/web.conf"
    with open(path, "w", encoding="ascii") as file:
        file.write(WEB.format(dir=session.bed.dir, port=PORTS["web"], status=status_path(session)))
    return session.bed.spawn("b", "nginx", "-c", path, env=session.arm.environment)


def newest(program):
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{program}"))
    if not found:
        raise Trouble(f"{program} is missing: run scripts/setup --test")
    return found[-1]


def start_postgresql(session):
    data = session.bed.dir + "/postgresql"
    fresh = not os.path.exists(data)
    if fresh:
        os.mkdir(data, 0o700)
        run("tar", "-xf", data_dir() + "/postgresql.tar", "-C", data)
        run("chown", "-R", "postgres:postgres", data)
    process = session.bed.spawn("b", "-u", "postgres", newest("postgres"), "-D", data, "-k", data, "-c", "listen_addresses=*",
                                "-c", "fsync=off", "-c", "shared_buffers=32MB", "-c", "dynamic_shared_memory_type=mmap",
                                "-c", f"port={PORTS['postgresql']}", env=session.arm.environment)
    wait_port("b", PORTS["postgresql"], process)
    if fresh:
        session.bed.run("b", "pgbench", "-i", "-I", "dtGvp", "-s", "1", "-q", "-h", data, "-p", str(PORTS["postgresql"]),
                        "-U", "postgres", "postgres")
    return process


STARTERS = {"load": start_load, "redis": start_redis, "web": start_web, "postgresql": start_postgresql}


def client(session, *command, env=None):
    return session.bed.run("a", *command, env={**session.arm.environment, **(env or {})})


def difference(session, metric, amounts, work):
    """work(count) does count requests."""
    clock, values = session.clock, []
    work(amounts[0])  # whatever is read from a file is in memory after that
    for _ in range(session.sizes["runs"]):
        less, _ = clock.cost(lambda: work(amounts[0]))
        more, _ = clock.cost(lambda: work(amounts[1]))
        values.append((more - less) / (amounts[1] - amounts[0]) / (1 if clock.instructions else 1000))
    return result(metric, clock.unit("operation"), values)


def redis(session, metric):
    host, port = session.arm.address(PORTS["redis"])
    pipeline = metric.removeprefix("redis_p")

    def work(count):
        out = client(session, "redis-benchmark", "-h", host, "-p", str(port), "-c", "4", "-n", str(count), "-P", pipeline,
                     "-t", "set", "-d", "64", "--csv")
        if '"SET","' not in out:
            raise Trouble(f"redis-benchmark: {out[-300:]}")

    return difference(session, metric, session.sizes["redis" if pipeline == "1" else "redis_p16"], work)


def pgbench(session, metric):
    host, port = session.arm.address(PORTS["postgresql"])

    def work(count):
        out = client(session, "pgbench", "-n", "-S", "-c", "1", "-t", str(count), "-h", host, "-p", str(port), "-U", "postgres",
                     "postgres", env={"PGSSLMODE": "disable", "PGGSSENCMODE": "disable"})
        if f"actually processed: {count}/{count}" not in out:
            raise Trouble(f"pgbench: {out[-300:]}")

    return difference(session, metric, session.sizes["pgbench"], work)


def milliseconds(text):
    number, unit = re.fullmatch(r"([0-9.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def served(session):
    """How many requests the web server has answered, by itself: its status, which no pod's network carries."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(status_path(session))
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        text = b""
        while part := sock.recv(4096):
            text += part
    counts = re.search(rb"accepts handled requests\s+\d+ \d+ (\d+)", text)
    if not counts:
        raise Trouble(f"nginx' status: {text[-200:]}")
    return int(counts[1])


def wrk(session, metric):
    """It knows no number of requests: it goes on until it is interrupted, and the server says how many there were in a while."""
    host, port = session.arm.address(PORTS["web"])
    _, name, *new = metric.split("_")
    load = ["wrk", "-t1", "-c4", "-d3600s", "--latency", *(["-H", "Connection: close"] if new else []), f"http://{host}:{port}/{name}"]
    clock, seconds, values = session.clock, session.sizes["wrk"], []

    def a_while():
        """One request more than wrk's: the one that asks."""
        before = served(session)
        time.sleep(seconds)
        count = served(session) - before - 1
        if count < 10:
            raise Trouble(f"wrk: only {count} requests in {seconds} s")
        return count

    process = session.bed.spawn("a", *load, env=session.arm.environment, pipe=True)
    try:
        start = served(session)
        until(lambda: process.poll() is not None or served(session) > start + 20, "wrk's requests are answered")
        for _ in range(session.sizes["runs"]):
            cost, count = clock.cost(a_while)
            values.append(cost / count / (1 if clock.instructions else 1000))
        process.send_signal(signal.SIGINT)
        out = process.communicate(timeout=600)[0].decode()
    finally:
        process.kill()
        process.wait(60)
    if process.returncode or "Non-2xx" in out or "Socket errors" in out:
        raise Trouble(f"wrk: status {process.returncode}: {out[-400:]}")
    good = result(metric, clock.unit("operation"), values)
    if not clock.instructions:
        good.update({f"p{mark}": round(milliseconds(value) * 1000, 1)
                     for mark, value in re.findall(r"^ +(50|90|99)% +(\S+)", out, re.M)})
    return good


# What the cell needs, and how it is filled.
APPLICATIONS = {"redis": ("redis", redis), "wrk": ("web", wrk), "pgbench": ("postgresql", pgbench)}


def measure(session, metric):
    service, function = APPLICATIONS[metric.split("_")[0]]
    session.start(service)
    return function(session, metric)


def versions(packages):
    """What dpkg says of them."""
    out = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *packages], capture_output=True, text=True,
                         check=False).stdout
    return dict(line.split() for line in out.splitlines() if len(line.split()) == 2)
