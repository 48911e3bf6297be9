# SPDX-License-Identifier: Apache-2.0
"""Real programs, unmodified, from pod a to pod b."""
import glob
import hashlib
import json
import os
import re
import subprocess
import time

from lib.bed import MARKER
from lib.tap import Failure, case, check, contains, equal, until

SIZE = 20_000_000
NGINX = """
worker_processes 1; daemon off; user root; pid {dir}/nginx.pid; error_log {dir}/nginx.err;
events {{ worker_connections 256; }}
http {{
	sendfile on;
	log_format seen '$remote_addr $remote_port $status "$request" "$http_user_agent"';
	access_log {dir}/nginx.access seen;
	client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
	uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
	server {{ listen 80; listen [::]:80; root {dir}/www; }}
}}
"""


def start_nginx(bed):
    if "nginx" in bed.started:
        return bed.started["nginx"]
    os.makedirs(bed.dir + "/www", exist_ok=True)
    block = (MARKER + "-FILE\n").encode()
    block += bytes(range(256)) * ((4096 - len(block)) // 256)
    with open(bed.dir + "/www/file", "wb") as file:
        while file.tell() < SIZE:
            file.write((str(file.tell()).encode() + block)[:SIZE - file.tell()])
    with open(bed.dir + "/www/file", "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    with open(bed.dir + "/nginx.conf", "w", encoding="ascii") as file:
        file.write(NGINX.format(dir=bed.dir))
    bed.spawn("b", "nginx", "-c", bed.dir + "/nginx.conf")
    bed.wait_port("b", 80)
    bed.started["nginx"] = digest
    return digest


def curl(bed, version):
    digest = start_nginx(bed)
    target = f"{bed.dir}/got{version}"
    host = bed.address("b", version)
    url = f"http://[{host}]/file?{MARKER}" if version == 6 else f"http://{host}/file?{MARKER}"
    facts = json.loads(bed.run("a", "curl", "-sS", "-o", target, "-A", f"{MARKER}-{version}", "-m", "60", "-w",
                               '%{json}', url))
    equal(facts["http_code"], 200, "status")
    equal(facts["size_download"], SIZE, "bytes")
    with open(target, "rb") as file:
        equal(hashlib.sha256(file.read()).hexdigest(), digest, "SHA-256 of the file")
    os.unlink(target)
    equal((facts["remote_ip"], facts["remote_port"]), (host, 80), "what curl is connected to")
    equal(facts["local_ip"], bed.address("a", version), "curl's own address")
    expected = f'{facts["local_ip"]} {facts["local_port"]} 200 "GET /file?{MARKER} HTTP/1.1" "{MARKER}-{version}"'

    def logged():
        with open(bed.dir + "/nginx.access", encoding="ascii") as file:
            contains(file.read(), expected, "nginx's access log")
        return True

    until(logged, "nginx logs the true client", 5)
    return f'{SIZE / facts["time_total"] / 1e6:.1f} MB/s'


@case("curl fetches 20 MB from nginx over IPv4, which logs its true address")
def curl4(bed):
    return curl(bed, 4)


@case("curl fetches 20 MB from nginx over IPv6, which logs its true address")
def curl6(bed):
    return curl(bed, 6)


@case("curl uses one connection for ten requests", kernel="6.12")
def curl_keepalive(bed):
    start_nginx(bed)
    url = f"http://{bed.address('b')}/none?[1-10]{MARKER}"
    out = bed.run("a", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{num_connects} ", url)
    equal(out.split(), ["404", "1"] + ["404", "0"] * 9, "status and new connections")


def start_redis(bed, port):
    """In b, on a port that no other case takes: it stays until the testbed ends. IPv4 and IPv6."""
    log = f"{bed.dir}/redis.{port}.log"
    process = bed.spawn("b", "redis-server", "--port", str(port), "--bind", "*", "::*", "--protected-mode", "no",
                        "--save", "", "--dir", bed.dir, "--daemonize", "no", output=log)
    try:
        for version in (4, 6):
            bed.wait_port("b", port, version)
    except Failure as error:
        with open(log, encoding="utf-8") as file:
            raise Failure(f"{error}; redis, status {process.poll()}: {file.read()}") from error
    return process


@case("redis-cli and redis-benchmark against redis", kernel="6.12")
def redis(bed):
    start_redis(bed, 6379)
    for version in (4, 6):
        host = bed.address("b", version)
        equal(bed.run("a", "redis-cli", "-h", host, "set", f"key{version}", MARKER + "-REDIS").strip(), "OK", "set")
        equal(bed.run("a", "redis-cli", "-h", host, "get", f"key{version}").strip(), MARKER + "-REDIS", "get")
    own = bed.address("a")
    contains(bed.run("a", "redis-cli", "-h", bed.address("b"), "client", "list"), f"addr={own}:", "redis' own list")
    count = 2000 * bed.scale
    out = bed.run("a", "redis-benchmark", "-h", bed.address("b"), "-t", "set,get", "-n", str(count), "-c", "20",
                  "--csv", timeout=90)
    rates = dict(re.findall(r'"(SET|GET)","([0-9.]+)"', out))
    equal(sorted(rates), ["GET", "SET"], "benchmarks that ran")
    out = bed.run("a", "redis-benchmark", "-h", bed.address("b", 6), "-t", "get", "-n", str(count), "-c", "10", "-P",
                  "16", "-q", timeout=90)
    contains(out, "requests per second", "pipelined redis-benchmark over IPv6")
    return f"SET {rates['SET']}/s GET {rates['GET']}/s"


@case("iperf3 forward, reverse, four streams, IPv6", kernel="6.12")
def iperf3(bed):
    server = bed.spawn("b", "iperf3", "-s", output=bed.dir + "/iperf3.log")
    bed.wait_port("b", 5201, 6)
    said = []
    for name, version, options in (("-c", 4, ()), ("-R", 4, ("-R",)), ("-P 4", 4, ("-P", "4")), ("-6", 6, ("-6",))):
        out = bed.run("a", "iperf3", "-c", bed.address("b", version), "-t", "1", "-b", "200M", "-l", "64K", "-J", "--repeating-payload",
                      *options)
        result = json.loads(out)
        check("error" not in result, f"iperf3 {name}: {result.get('error')}")
        # What is on its way when the time is over is sent but not received; a few MB fit in between.
        sent, received = (result["end"][part]["bytes"] for part in ("sum_sent", "sum_received"))
        check(received > 1_000_000, f"iperf3 {name}: only {received} bytes of {sent} arrived")
        said.append(f"{name} {result['end']['sum_received']['bits_per_second'] / 1e6:.0f}")
    server.kill()
    return ", ".join(said) + " Mbit/s"


@case("psql against PostgreSQL, which sees the true client", kernel="6.12")
def postgresql(bed):
    data = bed.dir + "/postgresql"
    os.mkdir(data, 0o700)
    subprocess.run(["tar", "-xf", bed.data + "/postgresql.tar", "-C", data], check=True, timeout=60)
    subprocess.run(["chown", "-R", "postgres:postgres", data], check=True, timeout=60)
    program = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))[-1]
    server = bed.spawn("b", program, "-D", data, "-k", data, "-c", "listen_addresses=*", "-c", "fsync=off", "-c",
                       "shared_buffers=16MB", "-c", "dynamic_shared_memory_type=mmap", user="postgres",
                       output=bed.dir + "/postgresql.log")
    bed.wait_port("b", 5432)
    query = f"select '{MARKER}-PSQL', host(inet_client_addr()), host(inet_server_addr())"
    try:
        for version in (4, 6):
            connection = f"host={bed.address('b', version)} user=postgres sslmode=disable connect_timeout=30"
            out = bed.run("a", "psql", "-X", "-At", "-F", " ", "-c", query, connection, timeout=60)
            equal(out.strip(), f"{MARKER}-PSQL {bed.address('a', version)} {bed.address('b', version)}",
                  f"what PostgreSQL sees over IPv{version}")
        out = bed.run("a", "psql", "-X", "-At", "-c", "select md5(i::text) from generate_series(1, 20000) i",
                      connection, timeout=60)
        lines = out.split()
        equal(len(lines), 20000, "rows")
        equal(lines[-1], hashlib.md5(b"20000").hexdigest(), "the last row")
    except Exception:
        with open(bed.dir + "/postgresql.log", encoding="utf-8", errors="replace") as file:
            print("# " + "# ".join(file.readlines()[-5:]), flush=True)
        raise
    finally:
        server.kill()


@case("a server that speaks first is heard without delay")
def banner(bed):
    greeting = f"220 {MARKER}-BANNER ESMTP\r\n".encode()
    for version in (4, 6):
        listener = bed.agent("b").listen(bed.address("b", version), 2525)
        start = time.monotonic()
        client = bed.agent("a").connect(bed.address("b", version), 2525)
        server, _ = listener.accept()
        server.sendall(greeting)
        equal(client.recv_exactly(len(greeting)), greeting, "the greeting")
        waited = time.monotonic() - start
        check(waited < 5, f"the greeting took {waited:.1f} s: something waits for the client to speak")
        client.sendall(b"QUIT\r\n")
        equal(server.recv_exactly(6), b"QUIT\r\n", "the answer to it")
        server.sendall(b"221 bye\r\n")
        server.close()
        equal(client.recv_to_end(), (b"221 bye\r\n", 0), "the farewell and a clean end")
        listener.close()
    return f"{waited:.2f} s"


@case("a non-blocking client with edge-triggered epoll")
def epoll(bed):
    for version in (4, 6):
        for size in (1, 100_000, 3_000_000):
            out = json.loads(bed.run("a", bed.tools + "/nonblocking", bed.at("b", 5002, version), str(size)))
            equal((out["connect"], out["errno"], out["received"]), (115, 0, size), "connect, result, bytes echoed")
    done = bed.run("a", bed.tools + "/nonblocking", bed.at("b", 4999), "10", status=None)
    out = json.loads(done.stdout)
    check(out["errno"] in (104, 111), f"a closed port gives {out['errno']} ({out['error']}), not ECONNREFUSED or -RESET")


@case("a Go program that copies both ways with io.Copy (splice, sendfile)")
def golang(bed):
    server = bed.spawn("b", bed.data + "/gocopy", "serve", "[::]:7000")
    bed.wait_port("b", 7000, 6)
    for version in (4, 6):
        out = json.loads(bed.run("a", bed.data + "/gocopy", "copy", bed.at("b", 7000, version), "4000000", bed.dir))
        equal(out["received"], 4000000, "bytes echoed")
        equal(out["digest_received"], out["digest_sent"], "SHA-256")
    server.kill()


@case("DNS over UDP stays as it is")
def dns(bed):
    bed.spawn("b", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
              "--user=root", "--pid-file=", "--port=5353", "--address=/plain-dns-query.test/192.0.2.7")
    bed.wait_port("b", 5353)
    for version in (4, 6):
        out = bed.run("a", "dig", "+short", "+timeout=5", "-p", "5353", f"@{bed.address('b', version)}",
                      "plain-dns-query.test", "A")
        equal(out.strip(), "192.0.2.7", "the answer")
