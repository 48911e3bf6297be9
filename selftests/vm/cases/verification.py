# SPDX-License-Identifier: Apache-2.0
"""Who is believed, and for how long: peers whose SVID expires, and peers that a CRL revokes."""
import base64
import errno
import hashlib
import hmac
import os
import re
import resource
import signal
import struct
import subprocess
import time

from lib import maps
from lib.bed import MARKER
from lib.tap import case, check, contains, equal, until

from .rekey import s_client
from .streams import pair

SERIAL = 0x1267  # of what tools/certify makes
LONG, SHORT, OPEN = 6101, 6102, 6103


def identity(bed, node, *lines):
    """Restarts the node with these lines in its identity section, which is the file's last, and the CA of all nodes."""
    path = f"{bed.env['state']}/n{node}.yaml"
    with open(path, encoding="ascii") as file:
        text = file.read()
    of_backend = "".join(f"      {line}\n" for line in lines if line.startswith("svid_ttl"))
    others = "".join(f"  {line}\n" for line in lines if not line.startswith("svid_ttl"))
    text = (text[:text.index("identity:")] + "identity:\n  trust_domain: example.org\n  enabled: own\n" + others +
            "  backends:\n    - name: own\n      type: builtin\n" + f"      root_file: {bed.env['state']}/root.pem\n" +
            of_backend)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    bed.testbed("restart", str(node))


def talk(ends):
    for here, there in (ends, ends[::-1]):
        here.sendall(MARKER.encode())
        equal(there.recv_exactly(len(MARKER)), MARKER.encode(), "what arrives")


def handshake(bed, client, server):
    for end in pair(bed, 4, client, server, SHORT):
        end.close()


def ends_of(bed, node, port):
    """When the peers' SVIDs of a node's flows on a port end."""
    return [flow["peer_not_after"] for flow in bed.flows(node) if port in (flow["self"]["port"], flow["peer"]["port"])]


def renewed(bed, node, pod, since):
    """The pod has an SVID that ends later than since."""
    return any(item["name"] == pod and item["svid_not_after"] > since for item in bed.kmtls(node, "pod", "list"))


def forget_expiries(bed, node):
    """What handshakes of other cases have shown: SVIDs of a day."""
    path = f"{bed.env['pins']}/n{node}/peer_expiries"
    lines = [f"map delete pinned {path} key {' '.join(map(str, key))}" for key, _ in maps.entries(path)]
    subprocess.run(["bpftool", "batch", "file", "-"], input="\n".join(lines) + "\n", text=True, capture_output=True,
                   timeout=60, check=True)


@case("a flow ends with its peer's SVID, unless newer handshakes showed a later one; warn keeps it", mesh=True, timeout=150)
def expiry(bed):
    """Node 2 closes, node 1 warns: b to d is node 2's alone, a to c node 1's; a to b has both."""
    identity(bed, 1, "svid_ttl: 10s", "peer_expiry: warn")
    identity(bed, 2, "svid_ttl: 10s")
    for node in (1, 2):
        forget_expiries(bed, node)
    before = {node: bed.counters(node) for node in (1, 2)}
    since = {node: bed.log_size(node) for node in (1, 2)}

    def more(node, name):
        return bed.counter(node, name) - before[node].get(name, 0)

    closed, kept, renewing = pair(bed, 4, "b", "d", LONG), pair(bed, 4, "a", "c", LONG + 10), pair(bed, 4, "a", "b", LONG + 20)
    for flow in (closed, kept, renewing):
        talk(flow)
    last = max(ends_of(bed, 2, LONG + 20))  # a's SVID
    first = min(ends_of(bed, 2, LONG))
    until(lambda: renewed(bed, 1, "a", last), "a has a newer SVID", 30)
    handshake(bed, "a", "b")
    bed.kill_worker(2)  # the next one knows of it
    until(lambda: time.time() > last + 2, "a's SVID of the long flow is over", 30)
    talk(renewing)
    check(all(end > last for end in ends_of(bed, 2, LONG + 20)), "the slot of a to b shows the later SVID")
    for end in closed:
        equal(end.recv_to_end(), (b"", errno.ECONNRESET), "the end of b to d")
    late = time.time() - first
    check(-0.5 < late < 8, f"it ended {late:.1f} s after the SVID")
    until(lambda: more(2, "peer-expired") >= 1, "node 2 counts peer-expired")
    contains(bed.wait_log(2, since[2], "flow reset", "reason=peer-expired"), "peer_id=", "the log line")
    until(lambda: more(1, "peer-expired-kept") >= 2, "node 1 says that it keeps a to c", 30)
    talk(kept)
    line = f"flow kept\" flow={[flow for flow in bed.flows(1) if flow['self']['port'] == LONG + 10][0]['id']} "
    equal(bed.log(1, since[1]).count(line), 1, "lines about the flow that is kept")
    equal(more(1, "peer-expired"), 0, "flows that node 1 has closed")
    for flow in (kept, renewing):
        for end in flow:
            end.close()
    for node in (1, 2):
        identity(bed, node)
    return f"closed {late:.1f} s after the SVID"


def write_crl(bed, path, revoked, days=1, root=None, key=None, serial=SERIAL):
    """Atomically, as whoever rotates them does. By the daemons' root, or another that is in root and key."""
    base, root = bed.dir + "/crl", root or f"{bed.env['state']}/root.pem"
    os.makedirs(base, exist_ok=True)
    with open(base + "/index", "w", encoding="ascii") as file:
        if revoked:
            digits = f"{serial:X}"  # openssl wants an even number of them
            file.write(f"R\t491231235959Z\t260101000000Z\t{'0' * (len(digits) % 2)}{digits}\tunknown\t/CN=x\n")
    with open(base + "/config", "w", encoding="ascii") as file:
        file.write(f"[ca]\ndefault_ca=own\n[own]\ndatabase={base}/index\ndefault_md=sha256\ncertificate={root}\n"
                   f"private_key={key or root}\ndefault_crl_days={days}\n")
    subprocess.run(["openssl", "ca", "-gencrl", "-config", base + "/config", "-out", path + ".new"], check=True,
                   capture_output=True, timeout=60)
    os.rename(path + ".new", path)


def refused(bed, port):
    """A new connection of the stranger meets alert 44 on node 2."""
    since = bed.log_size(2)
    process = bed.spawn("x", *s_client_command(bed, port), output=f"{bed.dir}/revoked-{port}.log")
    line = bed.wait_log(2, since, "connection refused", "reason=revoked", seconds=30)
    contains(line, "peer_id=spiffe://example.org/foreign", "the log line")
    process.wait(30)
    process.stdin.close()
    with open(f"{bed.dir}/revoked-{port}.log", encoding="ascii", errors="replace") as file:
        contains(file.read(), "alert number 44", "what the revoked peer sees")


def s_client_command(bed, port):
    pem = bed.dir + "/rekey.pem"
    return ("openssl", "s_client", "-connect", bed.at("b", port), "-tls1_3", "-cert", pem, "-key", pem, "-CAfile",
            f"{bed.env['state']}/root.pem", "-alpn", "kmtls/1")


@case("a CRL: new handshakes are refused, live flows reset; a damaged file changes nothing", mesh=True, timeout=150)
def crl(bed):
    path = bed.dir + "/root.crl"
    write_crl(bed, path, False)
    since = bed.log_size(2)
    identity(bed, 2, f"crl_files: [{path}]")
    bed.wait_log(2, since, "CRL file taken", "revoked=0")
    before = bed.counters(2)
    revoked, bystander = s_client(bed, OPEN, "kmtls/1"), pair(bed, 4, "a", "b", OPEN + 1)
    revoked.talk("hello")
    write_crl(bed, path, True)
    start = time.monotonic()
    equal(revoked.server.recv_to_end(), (b"", errno.ECONNRESET), "the end of the revoked peer's flow")
    took = time.monotonic() - start
    check(took < 2, f"it took {took:.1f} s")
    revoked.process.kill()
    revoked.server.close()
    bed.wait_log(2, since, "flow reset", "reason=peer-revoked")
    listener = bed.agent("b").listen(bed.address("b"), OPEN + 2)
    refused(bed, OPEN + 2)
    size = bed.log_size(2)
    with open(path, "r+b") as file:
        file.truncate(200)
    contains(bed.wait_log(2, size, "CRL file not taken"), "reason=crl-rejected", "the log line")
    refused(bed, OPEN + 2)
    bed.kill_worker(2)  # it has what the one before had taken
    bed.wait_log(2, size, "CRL file not taken", "in_use=\"the one before\"")
    refused(bed, OPEN + 2)
    done = subprocess.run([bed.build + "/kmtls", "--socket", f"{bed.env['state']}/n2/control.sock", "check", "--bpf-dir",
                           f"{bed.env['pins']}/n2"], capture_output=True, text=True, timeout=60, check=False)
    contains(done.stdout, "1 of 1 CRL files cannot be taken", "kmtls check")
    talk(bystander)
    size = bed.log_size(2)
    write_crl(bed, path, False)
    bed.wait_log(2, size, "CRL file taken")
    listener.close()
    again = s_client(bed, OPEN + 3, "kmtls/1")
    again.talk("hello again")
    again.end()
    more = {name: count - before.get(name, 0) for name, count in bed.counters(2).items()}
    equal((more.get("peer-revoked"), more.get("revoked"), more.get("crl-rejected")), (1, 3, 2), "counters")
    for end in bystander:
        end.close()
    identity(bed, 2)
    return f"reset after {took:.1f} s"


# --- where keys are ---------------------------------------------------------------------------------------


def expand(digest, secret, label, length):
    """HKDF-Expand-Label of RFC 8446, for what one block of the hash is enough for."""
    name = b"tls13 " + label
    info = struct.pack("!HB", length, len(name)) + name + b"\0\1"
    return hmac.new(secret, info, digest).digest()[:length]


def traffic_keys(path):
    """Of a key log: the secrets of application data, and the keys that follow from them."""
    found = {}
    with open(path, encoding="ascii") as file:
        for line in file:
            words = line.split()
            if len(words) == 3 and words[0] in ("CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"):
                secret = bytes.fromhex(words[2])
                digest = hashlib.sha256 if len(secret) == 32 else hashlib.sha384
                found[words[0]] = secret
                found["the key of " + words[0]] = expand(digest, secret, b"key", 16 if len(secret) == 32 else 32)
    return found


def private_number(path):
    """The scalar of an EC key in a PEM file, as in DER and as in a BIGNUM."""
    text = subprocess.run(["openssl", "pkey", "-in", path, "-text", "-noout"], capture_output=True, text=True, timeout=60,
                          check=True).stdout
    number = bytes.fromhex("".join(re.search(r"priv:\n((?:\s+[0-9a-f:]+\n)+)", text).group(1).split()).replace(":", ""))
    number = number[-32:].rjust(32, b"\0")
    return {"the root's key": number, "the root's key, words": number[::-1]}


def mappings(pid):
    with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as file:
        for line in file:
            words = line.split(maxsplit=5)
            begin, end = (int(number, 16) for number in words[0].split("-"))
            yield begin, end, words[1], words[5].strip() if len(words) > 5 else ""


def is_secret(name):
    return name.startswith(("/secretmem", "/memfd:kmtls-secrets"))


def search_memory(pid, needles):
    """(name of the needle, mapping) of each find, and the bytes that were read."""
    found, size = [], 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for begin, end, permissions, name in mappings(pid):
            if permissions[0] != "r" or is_secret(name) or name.startswith("[v"):
                continue
            tail, at = b"", begin
            while at < end:
                memory.seek(at)
                try:
                    part = memory.read(min(end - at, 1 << 22))
                except OSError:
                    break  # a file that ends before its mapping
                if not part:
                    break
                window = tail + part
                found += [(needle, name or "anonymous") for needle, value in needles.items() if value in window]
                tail, at, size = window[-64:], at + len(part), size + len(part)
    return found, size


def dump_core(bed, pid):
    """Ends the process as a fault does; what it leaves behind, None: nothing. The pattern of names is the guest's."""
    path = f"{bed.dir}/core.{pid}"
    resource.prlimit(pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with open("/proc/sys/kernel/core_pattern", "w", encoding="ascii") as file:
        file.write(f"{bed.dir}/core.%p")
    os.kill(pid, signal.SIGSEGV)

    def gone():
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
                return stat.read().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return True

    until(gone, f"process {pid} is gone", 40)
    if not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        core = file.read()
    os.unlink(path)
    return core


def cores_have_no_keys(bed, node, needles):
    worker = bed.worker_pid(node)
    equal(dump_core(bed, worker), None, "what a worker leaves behind")
    bed.wait_worker(node, worker)
    core = dump_core(bed, bed.daemon_pid(node))
    bed.testbed("kill", str(node), check=False)
    bed.testbed("start", str(node))
    check(core and core[:4] == b"\x7fELF" and b"control.sock" in core, "the keeper's core")
    equal([name for name, value in needles.items() if value in core], [], "keys in the keeper's core")
    return len(core)


@case("keys never appear: not in the daemon's memory outside the secret region, nor in logs, dumps and cores", mesh=True)
def keys(bed):
    log, port = bed.dir + "/keys.log", OPEN + 10
    s_client(bed, port - 1, "kmtls/1").end()  # makes the certificate
    listener = bed.agent("b").listen(bed.address("b"), port)
    process = bed.spawn("x", *s_client_command(bed, port), "-keylogfile", log, output=bed.dir + "/keys.out")
    server, _ = listener.accept()
    handshake(bed, "a", "b")  # whatever reuses the memory of the first one
    needles = {**traffic_keys(log), **private_number(f"{bed.env['state']}/root.pem")}
    equal(len(needles), 6, "keys to look for")
    said = []
    for node in (1, 2):
        for pid in bed.pids(node):
            found, size = search_memory(pid, needles)
            equal(found, [], f"keys in the memory of process {pid} of node {node}")
            said.append(f"{size >> 20} MiB")
        worker = bed.worker_pid(node)
        check(sum(is_secret(name) for _, _, _, name in mappings(worker)) >= 2, "the worker has a region and a heap for keys")
        with open(f"/proc/{worker}/smaps", encoding="ascii", errors="replace") as file:
            entries = re.findall(r"^[0-9a-f]+-[0-9a-f]+ .*(?:secretmem|memfd:kmtls-secrets).*\n(?:[A-Z].*\n)+", file.read(), re.M)
        check(entries and all(re.search(r"VmFlags:.* dd( |$)", entry, re.M) for entry in entries), "left out of core dumps")
    # The search finds what is there.
    held = bytes(byte ^ 0x5A for byte in os.urandom(32))
    check(search_memory(os.getpid(), {"held": held})[0], "what this process holds is found in it")
    path = bed.dir + "/keys.tar.gz"
    subprocess.run([bed.build + "/kmtls", "--socket", f"{bed.env['state']}/n2/control.sock", "dump", path], check=True,
                   capture_output=True, timeout=60)
    texts = {"log": bed.log(2), "dump": subprocess.run(["tar", "-xzOf", path], capture_output=True, check=True,
                                                       timeout=60).stdout.decode(errors="replace")}
    os.unlink(path)
    for name, value in needles.items():
        for form in (value.hex(), value.hex().upper(), base64.b64encode(value).decode().rstrip("=")[:-1]):
            equal([where for where, text in texts.items() if form in text], [], f"texts with {name}")
    server.close()
    listener.close()
    process.kill()
    process.wait(20)
    size = cores_have_no_keys(bed, 2, needles)
    return "read " + ", ".join(said) + f", a core of {size >> 20} MiB"
