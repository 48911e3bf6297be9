# SPDX-License-Identifier: Apache-2.0
"""What programs make of a connect() that fails or waits: time-outs, fail-over, racing of addresses.

Run with --plain the same expectations hold for plain TCP: that is the comparison.
"""
import json
import os
import re
import socket
import struct
import threading
import time

from lib.bed import MARKER
from lib.tap import Skip, case, check, contains, equal

from .apps import start_nginx, start_redis
from .connect import network, number

SLACK = 12  # seconds that an emulated guest may lose to its load
SWALLOWED = "10.89.4.1"
SWALLOWED6 = "fd89:4::1"
CLOSED = 4999
HOSTS = "/etc/hosts"


def timed(bed, *argv, **options):
    start = time.monotonic()
    done = bed.run("a", *argv, status=None, **options)
    return done, time.monotonic() - start


def within(seconds, least, most, what):
    check(least <= seconds <= most + SLACK, f"{what} took {seconds:.1f} s, not {least} to {most}")


@case("curl --connect-timeout: refused, swallowed, served", kernel="6.12")
def curl(bed):
    network(bed)
    start_nginx(bed)
    for host, literal in ((bed.address("b"), bed.address("b")), (bed.address("b", 6), f"[{bed.address('b', 6)}]")):
        done, seconds = timed(bed, "curl", "-sS", "--connect-timeout", "20", f"http://{literal}:{CLOSED}/")
        equal(done.returncode, 7, f"curl's status for a closed port of {host} (could not connect)")
        within(seconds, 0, 2, "a refusal")
    for literal in (SWALLOWED, f"[{SWALLOWED6}]"):
        done, seconds = timed(bed, "curl", "-sS", "--connect-timeout", "1.5", f"http://{literal}/")
        equal(done.returncode, 28, f"curl's status for {literal} (timed out)")
        within(seconds, 1.4, 2.5, "giving up")
    out = bed.run("a", "curl", "-sS", "--connect-timeout", "30", "-o", "/dev/null", "-w",
                  "%{http_code} %{time_connect} %{local_ip}", f"http://{bed.address('b')}/none?{MARKER}")
    status, connected, local = out.split()
    equal((status, local), ("404", bed.address("a")), "what curl got, and its own address")
    check(float(connected) > 0, "time_connect is the time until the peer accepted")


@case("redis-cli says why it cannot connect", kernel="6.12")
def redis(bed):
    network(bed)
    port = "6389"
    start_redis(bed, int(port))
    done, seconds = timed(bed, "redis-cli", "-h", bed.address("b"), "-p", str(CLOSED), "ping")
    contains(done.stdout + done.stderr, "Connection refused", "redis-cli at a closed port")
    within(seconds, 0, 2, "a refusal")
    if bed.scale > 1:
        swallowed_redis(bed, port)
    equal(bed.run("a", "redis-cli", "-h", bed.address("b"), "-p", port, "echo", MARKER).strip(), MARKER, "an answer")


def swallowed_redis(bed, port):
    done, seconds = timed(bed, "redis-cli", "-h", SWALLOWED, "-p", port, "ping")
    check(re.search("timed out|Operation now in progress|Connection timed out", done.stdout + done.stderr),
          f"redis-cli at a swallowed address says {done.stdout}{done.stderr}")
    within(seconds, 2.5, 4, "giving up")


def postgres_stub(address, port):
    """In an agent: as much of PostgreSQL as psql needs for one query; libpq is what is looked at."""

    def exactly(connection, size):
        data = b""
        while len(data) < size:
            part = connection.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def message(kind, body):
        return kind + struct.pack("!I", len(body) + 4) + body

    def serve(connection):
        ready = message(b"Z", b"I")
        try:
            exactly(connection, struct.unpack("!I", exactly(connection, 4))[0] - 4)
            settings = b"".join(message(b"S", name + b"\0" + value + b"\0") for name, value in
                                ((b"server_version", b"15.0"), (b"client_encoding", b"UTF8"),
                                 (b"standard_conforming_strings", b"on")))
            connection.sendall(message(b"R", struct.pack("!I", 0)) + settings + ready)
            while exactly(connection, 1) == b"Q":
                exactly(connection, struct.unpack("!I", exactly(connection, 4))[0] - 4)
                value = connection.getpeername()[0].encode()
                column = b"who\0" + struct.pack("!IhIhih", 0, 0, 25, -1, -1, 0)
                connection.sendall(message(b"T", struct.pack("!h", 1) + column) +
                                   message(b"D", struct.pack("!hI", 1, len(value)) + value) +
                                   message(b"C", b"SELECT 1\0") + ready)
        except (EOFError, OSError):
            pass
        connection.close()

    listener = socket.create_server((address, port))

    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


@case("psql with several hosts goes on to the next: after a refusal, after connect_timeout", kernel="6.12")
def psql(bed):
    network(bed)
    bed.agent("b").call(postgres_stub, bed.address("b"), 5440)
    b = bed.address("b")
    for hosts, ports, least, most in ((f"{b},{b}", f"{CLOSED},5440", 0, 3), (f"{SWALLOWED},{b}", "5440,5440", 1.9, 5)):
        done, seconds = timed(bed, "psql", "-X", "-At", "-c", "select host(inet_client_addr())",
                              f"host={hosts} port={ports} user=postgres dbname=postgres sslmode=disable "
                              f"gssencmode=disable connect_timeout=2" if hosts.startswith(SWALLOWED) else
                              f"host={hosts} port={ports} user=postgres dbname=postgres sslmode=disable "
                              f"gssencmode=disable connect_timeout=30")
        equal((done.returncode, done.stdout.strip()), (0, bed.address("a")), f"psql at {hosts}: {done.stderr}")
        within(seconds, least, most, f"psql at {hosts}")
    done, seconds = timed(bed, "psql", "-X", "-At", "-c", "select 1",
                          f"host={b} port={CLOSED} user=postgres sslmode=disable gssencmode=disable")
    equal(done.returncode, 2, "psql's status when no host is left")
    contains(done.stderr, "Connection refused", "what psql says")


NGINX = """
worker_processes 1; daemon off; user root; pid {dir}/proxy.pid; error_log {dir}/proxy.err;
events {{ worker_connections 64; }}
http {{
	log_format tried '$upstream_addr|$upstream_status|$upstream_connect_time';
	access_log {dir}/proxy.access tried;
	client_body_temp_path {dir}/p1; proxy_temp_path {dir}/p2; fastcgi_temp_path {dir}/p3;
	uwsgi_temp_path {dir}/p4; scgi_temp_path {dir}/p5;
	upstream refusing {{ server {b}:{closed} max_fails=0; server {b}:80 backup; }}
	upstream swallowing {{ server {swallowed}:80 max_fails=0; server {b}:80 backup; }}
	proxy_connect_timeout 30s;
	server {{ listen 127.0.0.1:8090; location / {{ proxy_pass http://refusing; }} }}
	server {{ listen 127.0.0.1:8091;
		location / {{ proxy_pass http://swallowing; proxy_connect_timeout 1s; }} }}
}}
"""


@case("nginx goes on to the next upstream: after a refusal, after proxy_connect_timeout", timeout=90, kernel="6.12")
def nginx(bed):
    network(bed)
    start_nginx(bed)
    with open(bed.dir + "/proxy.conf", "w", encoding="ascii") as file:
        file.write(NGINX.format(dir=bed.dir, b=bed.address("b"), closed=CLOSED, swallowed=SWALLOWED))
    server = bed.spawn("a", "nginx", "-c", bed.dir + "/proxy.conf")
    bed.wait_port("a", 8091)
    try:
        for port, first, least, most in ((8090, f"{bed.address('b')}:{CLOSED}", 0, 3), (8091, f"{SWALLOWED}:80", 0.9, 4)):
            start = time.monotonic()
            out = bed.run("a", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{port}/none")
            within(time.monotonic() - start, least, most, f"the answer on port {port}")
            equal(out, "404", "the second upstream's answer")
            with open(bed.dir + "/proxy.access", encoding="ascii") as file:
                tried = file.read().splitlines()[-1].split("|")[0]
            equal(tried, f"{first}, {bed.address('b')}:80", "the upstreams nginx tried")
    finally:
        server.kill()


@case("wrk: 20 connections, no socket error", timeout=120, kernel="6.12")
def wrk(bed):
    network(bed)
    start_nginx(bed)
    out = bed.run("a", "wrk", "-t", "1", "-c", "20", "-d", "10s", "--timeout", "20s", "-H", f"User-Agent: {MARKER}",
                  f"http://{bed.address('b')}/none")
    check("Socket errors" not in out, out)
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", out)
    check(rate and float(rate.group(1)) > 1, out)
    return f"{rate.group(1)} requests/s"


@case("Go's net.Dialer: refusal, Timeout, and IPv4 and IPv6 of one name in a race", timeout=90, kernel="6.12")
def golang(bed):
    network(bed)
    check(os.path.exists(bed.data + "/godial"), "godial is missing: selftests/vm/prepare")
    bed.spawn("b", bed.tools + "/serve", bed.at("b", 5630))
    bed.spawn("b", bed.tools + "/serve", bed.at("b", 5631, 6))
    bed.wait_port("b", 5630)
    bed.wait_port("b", 5631, 6)
    b4, b6 = bed.address("b"), bed.address("b", 6)
    wanted = [("30s", "tcp4", bed.at("b", 5630), "", False, 0, 4), ("30s", "tcp6", bed.at("b", 5631, 6), "", False, 0, 4),
              ("30s", "tcp", f"{b4}:{CLOSED}", "111", False, 0, 2), ("30s", "tcp", f"[{b6}]:{CLOSED}", "111", False, 0, 2),
              ("1s", "tcp", f"{number(4, 80)[0]}", "", True, 0.9, 2), ("1s", "tcp", number(4, 80)[1], "", True, 0.9, 2)]
    in_guest = os.path.exists("/run/vmtest")
    if in_guest:
        # name, IPv4, IPv6, port: Go prefers IPv4 to these private IPv6 addresses.
        names = (("refusing4.test", b4, b6, 5631, 0), ("swallowing4.test", SWALLOWED, b6, 5631, 0.29),
                 ("refusing6.test", b4, b6, 5630, 0), ("swallowing6.test", b4, SWALLOWED6, 5630, 0))
        with open(HOSTS, encoding="ascii") as file:
            hosts = file.read()
        with open(HOSTS, "w", encoding="ascii") as file:
            file.write(hosts + "".join(f"\n{v4} {name}\n{v6} {name}\n" for name, v4, v6, _, _ in names))
        wanted += [("30s", "tcp", f"{name}:{port}", "", False, least, 5) for name, _, _, port, least in names]
    arguments = [word for line in wanted for word in line[:3]]
    try:
        out = bed.run("a", bed.data + "/godial", *arguments, timeout=80)
    finally:
        if in_guest:
            with open(HOSTS, "w", encoding="ascii") as file:
                file.write(hosts)
    lines = [json.loads(line) for line in out.splitlines()]
    equal(len(lines), len(wanted), "dials")
    for line, (_, _, address, number_, timeout, least, most) in zip(lines, wanted):
        what = f"{address}: {line}"
        equal((line["errno"], line["timeout"]), (number_, timeout), what)
        within(line["ms"] / 1000, least, most, what)
        if not number_ and not timeout:
            equal((line["error"], line["saw"]), ("", line["local"]), what)
            check(line["peer"].rsplit(":", 1)[0].strip("[]") in (b4, b6), what)
    if not in_guest:
        raise Skip("the race needs a changed /etc/hosts, so only in a guest; the rest has passed")
