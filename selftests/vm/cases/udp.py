# SPDX-License-Identifier: Apache-2.0
"""The ledger of plaintext UDP: what it says is exactly what was sent and received."""
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import time

from lib.tap import case, check, contains, equal, until

FIELDS = ("sent_packets", "sent_bytes", "received_packets", "received_bytes")
NODE = {"a": 1, "c": 1, "b": 2, "d": 2}
UDP_SEGMENT, UDP_GRO = 103, 104
UDPLITE = 136
SIZES = (0, 1, 63, 512, 1400)


def rows(bed, pod, *args):
    return [row for row in bed.kmtls(NODE[pod], "udp", "--pod", pod, *args) if not row["forgotten"]]


def entry(bed, pod, remote, port, protocol="udp"):
    """The four figures of one remote; zeros if there is no such entry."""
    found = [row for row in rows(bed, pod, "--peer", remote) if (row["port"], row["protocol"]) == (port, protocol)]
    check(len(found) <= 1, f"one entry for {remote} {port}: {found}")
    return tuple(found[0][name] for name in FIELDS) if found else (0, 0, 0, 0)


def whole(bed, pod):
    """The four figures of a pod, forgotten entries included."""
    listed = bed.kmtls(NODE[pod], "udp", "--pod", pod)
    return tuple(sum(row[name] for row in listed) for name in FIELDS)


def dump(bed, node, name):
    done = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", f"{bed.env['pins']}/n{node}/{name}"],
                          capture_output=True, text=True, timeout=60, check=True)
    return [element["formatted"] for element in json.loads(done.stdout)]


def totals(bed, pod):
    """The four figures of a pod as the programs count them."""
    cookie = [each["netns_cookie"] for each in bed.kmtls(NODE[pod], "pod", "list") if each["name"] == pod][0]
    values = [item["value"] for item in dump(bed, NODE[pod], "udp_totals") if item["key"] == cookie]
    equal(len(values), 1, f"elements of udp_totals for {pod}")
    return tuple(values[0][name] for name in FIELDS)


def minus(after, before):
    return tuple(new - old for new, old in zip(after, before))


def family_of(version):
    return socket.AF_INET6 if version == 6 else socket.AF_INET


def udp_socket(bed, place, version=4, port=0):
    sock = bed.agent(place).socket(family_of(version), socket.SOCK_DGRAM)
    sock.bind((bed.address(place, version), port))
    return sock


# --- run inside a pod ---------------------------------------------------------------------------


def send_raw(protocol, version, target, packet, header_included):
    """One packet of our own making."""
    with socket.socket(family_of(version), socket.SOCK_RAW, protocol) as sock:
        if header_included and version == 4:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        sock.sendto(packet, (target, 0))


def send_many(target, first_port, count, payload):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for port in range(first_port, first_port + count):
            sock.sendto(payload, (target, port))


def drain(at, version, count, window):
    """Receives count datagrams and answers each full window; the bytes."""
    with socket.socket(family_of(version), socket.SOCK_DGRAM) as sock:
        sock.bind(at)
        sock.settimeout(40)
        size = 0
        for number in range(1, count + 1):
            data, peer = sock.recvfrom(2000)
            size += len(data)
            if number % window == 0:
                sock.sendto(b"ack", peer)
        return size


def pour(source, target, version, count, window):
    """Sends count datagrams, a window at a time: none is lost to a full socket."""
    with socket.socket(family_of(version), socket.SOCK_DGRAM) as sock:
        sock.bind(source)
        sock.connect(target)
        sock.settimeout(40)
        for number in range(1, count + 1):
            sock.send(b"d" * 1200)
            if number % window == 0:
                sock.recv(10)


def send_segmented(source, target, size, data, version):
    """One write that the kernel cuts into datagrams of size bytes."""
    with socket.socket(family_of(version), socket.SOCK_DGRAM) as sock:
        sock.bind(source)
        sock.connect(target)
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        sock.send(data)


def echo_udplite(address, port):
    """A UDP-Lite exchange needs sockets made here; those of the agent are UDP."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, UDPLITE)
    sock.bind((address, port))
    sock.settimeout(20)
    data, peer = sock.recvfrom(2000)
    sock.sendto(data[::-1], peer)
    sock.close()
    return peer


def ask_udplite(source, target, data):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, UDPLITE)
    sock.bind(source)
    sock.settimeout(20)
    for _ in range(50):
        sock.sendto(data, target)
        try:
            sock.settimeout(0.4)
            answer = sock.recv(2000)
            sock.close()
            return answer
        except (TimeoutError, ConnectionRefusedError):
            continue
    raise TimeoutError("no answer by UDP-Lite")


def has_udplite():
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, UDPLITE).close()
        return True
    except OSError as error:
        if error.errno != errno.EPROTONOSUPPORT:
            raise
        return False


def ip4_packet(source, target, payload, protocol=17, ident=1, fragment=0):
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), ident, fragment, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(target)) + payload


def ip6_packet(source, target, first, payload):
    return struct.pack("!IHBB16s16s", 6 << 28, len(payload), first, 64, socket.inet_pton(socket.AF_INET6, source),
                       socket.inet_pton(socket.AF_INET6, target)) + payload


def checksum6(source, target, datagram):
    data = (socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target) +
            struct.pack("!II", len(datagram), 17) + datagram + b"\0" * (len(datagram) % 2))
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff or 0xffff


def udp_datagram6(source, target, from_port, to_port, payload):
    header = struct.pack("!HHH", from_port, to_port, 8 + len(payload))
    return header + struct.pack("!H", checksum6(source, target, header + b"\0\0" + payload)) + payload


# --- cases --------------------------------------------------------------------------------------


@case("strict mode passes UDP and counts it: connected and unconnected, both versions, to a pod and a stranger",
      mesh=True)
def exchange(bed):
    equal([bed.kmtls(node, "status")["mode"] for node in (1, 2)], ["strict"] * 2, "mode")
    port = 5300
    for version in (4, 6):
        for place in ("b", "x"):
            for connected in (False, True):
                port += 1
                begin = int(time.time())
                server, client = udp_socket(bed, place, version, port), udp_socket(bed, "a", version)
                near = client.getsockname()
                if connected:
                    client.connect((bed.address(place, version), port))
                for size in SIZES:
                    question, answer = b"q" * size, b"a" * (2 * size + 3)
                    if connected:
                        client.send(question)
                    else:
                        client.sendto(question, (bed.address(place, version), port))
                    data, peer = server.recvfrom(4000)
                    equal((data, peer[:2]), (question, near[:2]), "what arrives")
                    server.sendto(answer, peer)
                    equal(client.recv(4000), answer, "the answer")
                asked, answered = sum(SIZES), sum(2 * size + 3 for size in SIZES)
                what = f"IPv{version}, {'' if connected else 'un'}connected, a to {place}"
                equal(entry(bed, "a", bed.address(place, version), port), (5, asked, 5, answered), f"{what}: a's entry")
                if place == "b":
                    equal(entry(bed, "b", bed.address("a", version), near[1]), (5, answered, 5, asked),
                          f"{what}: b's entry")
                row = rows(bed, "a", "--peer", bed.address(place, version))
                row = [each for each in row if each["port"] == port][0]
                check(begin - 1 <= row["first"] <= row["last"] <= time.time() + 1, f"the times in {row}, from {begin}")
                client.close()
                server.close()
    return "16 exchanges of 5, exact"


@case("what stays inside the pod, copies to raw sockets and TCP are not in the ledger", mesh=True)
def left_out(bed):
    before = whole(bed, "a")
    for address in ("127.0.0.1", "127.8.7.6", "::1", bed.address("a"), bed.address("a", 6)):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server, client = (bed.agent("a").socket(family, socket.SOCK_DGRAM) for _ in range(2))
        server.bind((address, 5320))
        client.sendto(b"inside", (address, 5320))
        equal(server.recv(100), b"inside", f"what arrives at {address}")
        server.close()
    equal(minus(whole(bed, "a"), before), (0, 0, 0, 0), "by loopback")
    bed.load("a", "storm", "-r", 2, bed.at("b", 5001), bed.at("b", 5001, 6))
    equal(minus(whole(bed, "a"), before), (0, 0, 0, 0), "by TCP")
    # Nobody listens: what the pod sends counts, what it does not take does not.
    stranger = udp_socket(bed, "x")
    stranger.sendto(b"nobody is there", (bed.address("a"), 5321))
    time.sleep(0.3)
    equal(minus(whole(bed, "a"), before), (0, 0, 0, 0), "to a port where nobody listens")


def open_raw():
    """A raw socket for UDP, kept open in the agent by the module."""
    open_raw.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)


def read_raw():
    open_raw.socket.settimeout(10)
    data = open_raw.socket.recv(4000)
    open_raw.socket.close()
    return len(data)


@case("a raw socket that overhears is not counted, one that sends is", mesh=True)
def raw_sockets(bed):
    agent = bed.agent("a")
    agent.call(open_raw)
    server, stranger = udp_socket(bed, "a", 4, 5330), udp_socket(bed, "x")
    port = stranger.getsockname()[1]
    stranger.sendto(b"x" * 77, (bed.address("a"), 5330))
    equal(len(server.recv(100)), 77, "bytes that arrive")
    equal(agent.call(read_raw), 20 + 8 + 77, "bytes that the raw socket overhears")
    equal(entry(bed, "a", bed.address("x"), port), (0, 0, 1, 77), "received once")
    datagram = struct.pack("!HHHH", 5330, port, 8 + 50, 0) + b"y" * 50
    agent.call(send_raw, socket.IPPROTO_UDP, 4, bed.address("x"), datagram, False)
    equal(len(stranger.recv(100)), 50, "bytes that a raw socket sent")
    agent.call(send_raw, socket.IPPROTO_RAW, 4, bed.address("x"),
               ip4_packet(bed.address("a"), bed.address("x"), datagram), True)
    equal(len(stranger.recv(100)), 50, "bytes that a raw socket sent with a header of its own")
    equal(entry(bed, "a", bed.address("x"), port), (2, 100, 1, 77), "sent by raw sockets")


@case("bulk: thousands of datagrams, and segmentation offload on both sides, to the byte", mesh=True)
def bulk(bed):
    count, window = 2000, 40
    for version in (4, 6):
        near, far = (bed.address("a", version), 5341), (bed.address("b", version), 5340)
        sink = bed.agent("b").start(drain, far, version, count, window)
        time.sleep(0.5)  # until it is bound: what nobody takes is not counted there
        bed.agent("a").call(pour, near, far, version, count, window)
        equal(bed.agent("b").result(sink), count * 1200, "bytes that arrive")
        acks = count // window
        equal(entry(bed, "a", *far), (count, count * 1200, acks, 3 * acks), f"IPv{version}: a's entry")
        equal(entry(bed, "b", *near), (acks, 3 * acks, count, count * 1200), f"IPv{version}: b's entry")
        expected = entry(bed, "a", *far)
        server = udp_socket(bed, "b", version, 5340)
        for coalesced in (0, 1):
            source = (bed.address("a", version), 5350 + coalesced)
            server.setsockopt(socket.IPPROTO_UDP, UDP_GRO, coalesced)
            bed.agent("a").call(send_segmented, source, (bed.address("b", version), 5340), 1000, b"s" * 20500, version)
            arrived = 0
            while arrived < 20500:
                arrived += len(server.recv(65000))
            equal(entry(bed, "b", bed.address("a", version), source[1]), (0, 0, 21, 20500),
                  f"IPv{version}: 21 segments, UDP_GRO {coalesced}: b's entry")
        equal(minus(entry(bed, "a", bed.address("b", version), 5340), expected), (42, 41000, 0, 0),
              f"IPv{version}: 42 segments: a's entry")
        server.close()
    return f"{count} datagrams and 42 segments, twice"


@case("fragments: a datagram is one, however it travels; handmade ones count where their ports are", mesh=True)
def fragments(bed):
    for version in (4, 6):
        server, client = udp_socket(bed, "b", version, 5360), udp_socket(bed, "a", version)
        near = client.getsockname()[1]
        client.sendto(b"f" * 20000, (bed.address("b", version), 5360))
        equal(len(server.recv(30000)), 20000, "bytes that arrive")
        equal(entry(bed, "a", bed.address("b", version), 5360), (1, 20000, 0, 0), f"IPv{version}: a's entry")
        equal(entry(bed, "b", bed.address("a", version), near), (0, 0, 1, 20000), f"IPv{version}: b's entry")
        server.close()
    # 8 + 64 bytes as 40 and 32: the second has no ports.
    server = udp_socket(bed, "b", 4, 5361)
    datagram = struct.pack("!HHHH", 5362, 5361, 72, 0) + b"h" * 64
    hidden = entry(bed, "a", bed.address("b"), 0)
    for start, end, more in ((0, 40, 0x2000), (40, 72, 0)):
        packet = ip4_packet(bed.address("a"), bed.address("b"), datagram[start:end], 17, 4711, more | start // 8)
        bed.agent("a").call(send_raw, socket.IPPROTO_RAW, 4, bed.address("b"), packet, True)
    equal(server.recv(100), b"h" * 64, "what arrives")
    equal(entry(bed, "a", bed.address("b"), 5361), (1, 32, 0, 0), "the first fragment, by its port")
    equal(minus(entry(bed, "a", bed.address("b"), 0), hidden), (1, 32, 0, 0), "the second, by port 0")
    equal(entry(bed, "b", bed.address("a"), 5362), (0, 0, 1, 64), "put together again")
    source, target = bed.address("a", 6), bed.address("b", 6)
    server6 = udp_socket(bed, "b", 6, 5361)
    datagram = udp_datagram6(source, target, 5362, 5361, b"h" * 64)
    hidden = entry(bed, "a", target, 0)
    for start, end, more in ((0, 40, 1), (40, 72, 0)):
        header = struct.pack("!BBHI", 17, 0, start | more, 4711)
        bed.agent("a").call(send_raw, socket.IPPROTO_RAW, 6, target,
                            ip6_packet(source, target, 44, header + datagram[start:end]), True)
    equal(server6.recv(100), b"h" * 64, "what arrives")
    equal(entry(bed, "a", target, 5361), (1, 32, 0, 0), "the first fragment, by its port")
    equal(minus(entry(bed, "a", target, 0), hidden), (1, 32, 0, 0), "the second, by port 0")
    equal(entry(bed, "b", source, 5362), (0, 0, 1, 64), "put together again")


@case("IPv6 extension headers: eight are looked through; behind more a receiver counts by port 0", mesh=True)
def extensions(bed):
    source, target = bed.address("x", 6), bed.address("b", 6)
    server = udp_socket(bed, "b", 6, 5370)
    server.settimeout(3)
    delivered = []
    for number in (1, 8, 9):
        datagram = udp_datagram6(source, target, 5370 + number, 5370, b"e" * 30)
        # Destination options: 6 bytes of padding. The last says UDP.
        chain = b"".join(struct.pack("!BBBB4s", 60 if i < number - 1 else 17, 0, 1, 4, bytes(4)) for i in range(number))
        hidden = entry(bed, "b", source, 0)
        bed.agent("x").call(send_raw, socket.IPPROTO_RAW, 6, target, ip6_packet(source, target, 60, chain + datagram), True)
        try:
            equal(server.recv(100), b"e" * 30, "what arrives")
            delivered.append(number)
        except TimeoutError:
            # A kernel may have a limit of its own.
            check(number > 1, "one extension header does not arrive")
            continue
        known = entry(bed, "b", source, 5370 + number)
        if number <= 8:
            equal(known, (0, 0, 1, 30), f"behind {number}")
        else:
            equal(known, (0, 0, 0, 0), f"behind {number}, by its port")
            # What follows the eighth: the ninth, the UDP header and the payload.
            equal(minus(entry(bed, "b", source, 0), hidden), (0, 0, 1, 8 + 8 + 30), f"behind {number}, by port 0")
    # Sent by a pod: hop-by-hop and destination options of an ordinary socket.
    client, stranger = udp_socket(bed, "a", 6), udp_socket(bed, "x", 6, 5371)
    client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, bytes([0, 0, 1, 4, 0, 0, 0, 0]))
    client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, bytes([0, 0, 1, 4, 0, 0, 0, 0]))
    client.sendto(b"o" * 21, (bed.address("x", 6), 5371))
    equal(len(stranger.recv(100)), 21, "bytes that arrive")
    equal(entry(bed, "a", bed.address("x", 6), 5371), (1, 21, 0, 0), "sent with options")
    return f"delivered behind {delivered} headers"


@case("UDP-Lite is counted by itself, where the kernel has it", mesh=True)
def udplite(bed):
    datagram = struct.pack("!HHHH", 5381, 5380, 8 + 25, 0) + b"l" * 25
    bed.agent("a").call(send_raw, UDPLITE, 4, bed.address("x"), datagram, False)
    equal(entry(bed, "a", bed.address("x"), 5380, "udplite"), (1, 25, 0, 0), "sent by a raw socket")
    equal(entry(bed, "a", bed.address("x"), 5380), (0, 0, 0, 0), "UDP to the same port")
    if not bed.agent("a").call(has_udplite):
        return "no UDP-Lite sockets in this kernel: raw ones only"
    waiting = bed.agent("b").start(echo_udplite, bed.address("b"), 5382)
    answer = bed.agent("a").call(ask_udplite, (bed.address("a"), 5383), (bed.address("b"), 5382), b"abc" * 5)
    bed.agent("b").result(waiting)
    equal(answer, b"cba" * 5, "the answer")
    equal(entry(bed, "a", bed.address("b"), 5382, "udplite")[2:], (1, 15), "a's entry")
    equal(entry(bed, "b", bed.address("a"), 5383, "udplite")[:2], (1, 15), "b's entry")
    return "sockets and raw"


@case("the command line: table, filters, totals, and what it says of wrong input", mesh=True, kernel="6.12")
def command_line(bed):
    control = ["--socket", f"{bed.env['state']}/n1/control.sock"]

    def kmtls(*args):
        done = subprocess.run([bed.build + "/kmtls", *control, *args], capture_output=True, text=True, timeout=30,
                              check=False)
        return done.returncode, done.stdout, done.stderr

    for args, status, said in (
            (("--peer", "10.1.2.3/8"), 2, "10.1.2.3/8: bits are set beyond the prefix length (10.0.0.0/8?)"),
            (("--peer", "nowhere"), 2, "nowhere: must be an IP address or ADDRESS/LENGTH"),
            (("--peer", "10.0.0.0/33"), 2, "10.0.0.0/33: prefix length must be 0 to 32"),
            (("--peer",), 2, "--peer: a value is missing"),
            (("--pod",), 2, "--pod: a value is missing"),
            (("--pod", "a", "--pod", "c"), 2, "--pod: is given twice"),
            (("-w=1",), 2, "-w: takes no value"),
            (("-x",), 2, "-x: unknown option"),
            (("a",), 2, "a: unexpected argument"),
            (("--pod", "nobody"), 1, "pod nobody: is not enrolled")):
        equal(kmtls("udp", *args), (status, "", f"kmtls udp: {said}\n"), f"kmtls udp {' '.join(args)}")
    client = udp_socket(bed, "a")
    client.sendto(b"t" * 1234, (bed.address("n1"), 5390))
    code, out, _ = kmtls("udp", "--pod", "a", "--peer", bed.address("n1"))
    equal(code, 0, "status")
    lines = [line.split() for line in out.splitlines()]
    equal(lines[0], "POD PROTOCOL REMOTE PORT SENT-PACKETS SENT-BYTES RECEIVED-PACKETS RECEIVED-BYTES LAST".split(),
          "headings")
    equal([line[:8] for line in lines[1:]], [["a", "udp", bed.address("n1"), "5390", "1", "1234", "0", "0"]], "rows")
    listed = bed.kmtls(1, "udp")
    sizes = [row["sent_bytes"] + row["received_bytes"] for row in listed]
    equal(sizes, sorted(sizes, reverse=True), "most bytes first")
    equal({row["pod"] for row in listed} - {"a", "c"}, set(), "pods of node 1")
    equal(bed.kmtls(1, "udp", "--pod", "a", "--peer", "203.0.113.0/24"), [], "a prefix nobody was in")
    equal(len(rows(bed, "a", "--peer", "10.89.0.0/24")) >= 1, True, "entries below a prefix")
    status = bed.kmtls(1, "status")["udp"]
    equal(tuple(status[name] for name in FIELDS), tuple(map(sum, zip(whole(bed, "a"), whole(bed, "c")))),
          "the sum in kmtls status")
    equal((status["entries"], status["capacity"], status["forgotten_packets"]), (len(bed.kmtls(1, "udp")), 16384, 0),
          "entries, capacity, forgotten")
    contains(kmtls("status")[1], f"{status['entries']} of 16384 entries, 0 packets forgotten", "kmtls status")
    follower = subprocess.Popen([bed.build + "/kmtls", *control, "udp", "--peer", bed.address("n1"), "-w"],
                                stdout=subprocess.PIPE, text=True)
    try:
        seen = ""
        while " 1234 " not in seen:
            seen = follower.stdout.readline()
        client.sendto(b"t" * 1000, (bed.address("n1"), 5390))
        signal.alarm(60)
        while " 2234 " not in seen:
            seen = follower.stdout.readline()
    finally:
        follower.kill()
        follower.wait()


@case("the maps by themselves say what kmtls says, with field names", mesh=True)
def by_bpftool(bed):
    client = udp_socket(bed, "c")
    client.sendto(b"m" * 321, (bed.address("x"), 5395))
    cookie = [pod["netns_cookie"] for pod in bed.kmtls(1, "pod", "list") if pod["name"] == "c"][0]
    found = [item["value"] for item in dump(bed, 1, "udp_ledger")
             if (item["key"]["netns"], item["key"]["remote"]["port"], item["key"]["protocol"]) == (cookie, 5395, 17)]
    equal([(value["sent_packets"], value["sent_bytes"]) for value in found], [(1, 321)], "udp_ledger")
    equal(totals(bed, "c"), whole(bed, "c"), "udp_totals")


@case("counting goes on while a worker or the whole daemon is dead, and across an upgrade", mesh=True, kernel="6.12", timeout=200)
def survives(bed):
    server, client = udp_socket(bed, "b", 4, 5400), udp_socket(bed, "a", 4, 5401)
    before = totals(bed, "a"), totals(bed, "b")
    sent = 0

    def send(times):
        nonlocal sent
        for _ in range(times):
            client.sendto(b"k" * 100, (bed.address("b"), 5400))
            equal(len(server.recv(200)), 100, "bytes that arrive")
            sent += 1

    def hold(what):
        expected = (sent, 100 * sent, 0, 0)
        equal(entry(bed, "a", bed.address("b"), 5400), expected, f"a's entry {what}")
        equal(entry(bed, "b", bed.address("a"), 5401), (0, 0, *expected[:2]), f"b's entry {what}")
        equal(minus(totals(bed, "a"), before[0]), expected, f"a's total {what}")
        equal(minus(totals(bed, "b"), before[1]), (0, 0, *expected[:2]), f"b's total {what}")

    send(10)
    hold("at first")
    worker = bed.worker_pid(1)
    os.kill(worker, signal.SIGKILL)
    send(10)
    bed.wait_worker(1, worker)
    send(10)
    hold("after a worker was killed")
    bed.testbed("kill", "1")
    send(10)
    bed.testbed("start", "1")
    send(10)
    hold("after the daemon was killed")
    bed.testbed("upgrade", "1")
    send(10)
    hold("after an upgrade")
    bed.testbed("take-over", "2")
    send(10)
    hold("after a take-over")
    return f"{sent} datagrams"


@case("too many remotes: entries are forgotten, the total of the pod is not", mesh=True, kernel="6.12", timeout=200)
def forgets(bed):
    room, count = 64, 700
    bed.configure(1, "max_udp_peers", room)
    try:
        before = whole(bed, "a")
        bed.testbed("restart", "1")
        equal(bed.kmtls(1, "status")["udp"]["capacity"], room, "capacity")
        equal(whole(bed, "a"), before, "the total, after the ledger began anew")
        equal(rows(bed, "a"), [], "entries, after the ledger began anew")
        bed.agent("a").call(send_many, bed.address("x"), 20000, count, b"p" * 33)
        listed = bed.kmtls(1, "udp", "--pod", "a")
        entries = [row for row in listed if not row["forgotten"]]
        check(0 < len(entries) <= room, f"{len(entries)} entries of {room}")
        equal({(row["sent_packets"], row["sent_bytes"]) for row in entries}, {(1, 33)}, "what the entries say")
        check(any(row["port"] == 20000 + count - 1 for row in entries), "the last is there")
        equal(minus(whole(bed, "a"), before), (count, count * 33, 0, 0), "the total of the pod")
        forgotten = [row for row in listed if row["forgotten"]]
        equal([(row["remote"], row["port"], row["sent_packets"]) for row in forgotten],
              [("", 0, before[0] + count - len(entries))], "what is shown as forgotten")
        equal(len(dump(bed, 1, "udp_ledger")) <= room, True, "entries in the map")
        done = subprocess.run([bed.build + "/kmtls", "--socket", f"{bed.env['state']}/n1/control.sock", "udp"],
                              capture_output=True, text=True, timeout=30, check=True)
        contains(done.stdout, "(forgotten)", "the table")
        # An upgrade keeps the size: programs count in this very map.
        bed.configure(1, "max_udp_peers", 128)
        since = bed.log_size(1)
        bed.testbed("upgrade", "1")
        bed.wait_log(1, since, "max_udp_peers stays", "now=64", "configured=128")
        equal(bed.kmtls(1, "status")["udp"]["capacity"], room, "capacity after an upgrade")
        equal(len(rows(bed, "a")), len(entries), "entries after an upgrade")
        return f"{len(entries)} entries of {room} after {count} remotes"
    finally:
        bed.configure(1, "max_udp_peers", None)
        bed.testbed("restart", "1")


@case("a pod that is removed is not counted any more, and nothing of it stays; back, it begins at 0", mesh=True)
def removed(bed):
    client = udp_socket(bed, "c")
    client.sendto(b"z" * 10, (bed.address("x"), 5410))
    cookie = [pod["netns_cookie"] for pod in bed.kmtls(1, "pod", "list") if pod["name"] == "c"][0]
    equal(entry(bed, "c", bed.address("x"), 5410), (1, 10, 0, 0), "c's entry")
    others = whole(bed, "a")
    bed.kmtls(1, "pod", "del", "c")
    client.sendto(b"z" * 10, (bed.address("x"), 5410))
    left = [item for item in dump(bed, 1, "udp_ledger") if item["key"]["netns"] == cookie]
    left += [item for item in dump(bed, 1, "udp_totals") if item["key"] == cookie]
    equal(left, [], "what is left of it in the maps")
    equal({row["pod"] for row in bed.kmtls(1, "udp")} - {"a"}, set(), "pods in the ledger")
    equal(whole(bed, "a"), others, "another pod")
    bed.kmtls(1, "pod", "add", "c", "--netns", "/run/netns/kt-c", "--cgroup", bed.env["cgroup"] + "/c", "--id",
              bed.env["c_id"])
    equal(whole(bed, "c"), (0, 0, 0, 0), "when it is back")
    client.sendto(b"z" * 10, (bed.address("x"), 5410))
    until(lambda: entry(bed, "c", bed.address("x"), 5410) == (1, 10, 0, 0), "it is counted again", 5)
