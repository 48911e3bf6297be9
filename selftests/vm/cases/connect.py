# SPDX-License-Identifier: Apache-2.0
"""connect() tells the truth: the table of docs/connect.md.

A row is a reason for which a connect() fails (or does not); each is tried blocking, with poll() and
with edge-triggered epoll, over IPv4, IPv6 and IPv4 through an IPv6 socket, all at once in one process
(tools/dial). The pods' tcp_syn_retries is 1, so that silence is ETIMEDOUT after 3 seconds.

Rows that need no mesh are also dialled from the pod's network namespace outside of its cgroup, where
kmtls does nothing: errno and time must be the same, and where both are refused poll's events, too.
"""
import collections
import errno
import json
import socket
import ssl
import struct
import subprocess
import threading
import time

from lib.tap import Failure, case, check, equal, until

MODES = ("blocking", "poll", "epoll")
FAMILIES = ("4", "6", "mapped")
# Silence: two SYNs, at 0 and 1 s, and two more seconds of waiting.
BUDGET_MS = 3000
# An emulated guest under load: what is answered at once takes this at most.
AT_ONCE_MS = 15000
LATE_MS = 12000
PATIENT = "syncnt=5"  # a hundred handshakes at once take an emulated guest longer than those 3 s

# How a row ends, and when: "at-once" or "budget". events: poll's, compared with plain TCP's.
Row = collections.namedtuple("Row", "name code when to4 to6 plain options")

# What the foreign server on x does, by port.
EXPIRED, REFUSES, NO_ALPN, SPEAKS_PLAIN, SAYS_NOTHING, RESETS, ENDS = range(6001, 6008)


# --- tools/dial ---------------------------------------------------------------------------------------


def start_dial(bed, place, jobs, seconds=10, quiet=False, cgroup=None):
    """cgroup: that of another place, to be in the pod's network but not in the pod."""
    command = bed.enter(place)
    if cgroup:
        command[1] = f"{bed.env['cgroup']}/{cgroup}"
    command += [bed.tools + "/dial", "-t", str(seconds)] + (["-q"] if quiet else []) + list(jobs)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            stdin=subprocess.DEVNULL)


def end_dial(process, timeout=100):
    """The connects, and the totals."""
    try:
        text = process.communicate(timeout=timeout)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        text = process.communicate()[0]
        raise Failure(f"dial is not done after {timeout} s; so far:\n" + "\n".join(
            f"{line['id']} {result(line)} {line['ms']:.0f} ms" for line in map(json.loads, text.splitlines()))) from None
    check(process.returncode == 0, f"dial: status {process.returncode} {text[-400:]}")
    lines = [json.loads(line) for line in text.splitlines()]
    return lines[:-1], lines[-1]


def dial(bed, place, *jobs, timeout=100, **options):
    return end_dial(start_dial(bed, place, jobs, **options), timeout)


def repeated(bed):
    """Jobs: pod a connects again and again to pods of both nodes."""
    return [f"id={near}{family},to={bed.at(far, 5001, family)},mode={mode},count=4,repeat,reset,syncnt=6" for near, far, family,
            mode in (("a", "b", 4, "blocking"), ("a", "b", 6, "epoll"), ("a", "d", 4, "poll"), ("a", "c", 4, "blocking"))]


def result(attempt):
    """The errno's name, or what became of it."""
    if attempt["gave_up"]:
        return "gave up"
    if attempt["errno"] == "OK" and attempt["answer"] != "OK":
        return f"OK, then {attempt['answer']}"
    return attempt["errno"]


# --- what must not remain ----------------------------------------------------------------------------


def held_state(bed):
    """What the daemons and the maps hold, to be compared before and after."""
    state = {}
    for node in (1, 2):
        try:
            opened = bed.descriptors(node)
            # Some pipes are kept for the next flows.
            state[node] = (opened["all"] - opened["pipe"], bed.kmtls(node, "status")["flows"])
        except (OSError, subprocess.TimeoutExpired):
            state[node] = None
    return state


def pinned(bed, node, name):
    """The elements of an internal map."""
    done = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", f"{bed.env['pins']}/n{node}/internal/{name}"],
                          capture_output=True, text=True, timeout=30, check=False)
    check(done.returncode == 0, f"bpftool: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def settle(bed, before, seconds=15):
    """Back to what was before: no flow, no descriptor, no dial that is remembered.

    Verdicts stay behind on purpose (see docs/connect.md), in a map that forgets the oldest."""
    if bed.plain:
        return

    def settled():
        for node in (1, 2):
            now = held_state(bed)[node]
            check(now == before[node], f"node {node} holds {now}, before {before[node]}")
            check(not bed.flows(node), f"node {node} lists flows: {bed.flows(node)[:2]}")
        return True

    until(settled, "both daemons hold what they held before", seconds)
    for node in (1, 2):
        for name in ("dials", "callers"):
            equal(pinned(bed, node, name), [], f"{name} left on node {node}")


# --- the network of the table -------------------------------------------------------------------------


def batch(bed, place, *commands):
    path = f"{bed.dir}/batch"
    with open(path, "w", encoding="ascii") as file:
        file.write("\n".join(commands) + "\n")
    bed.run(place, "ip", "-batch", path)


ROUTER = """table inet router {
	chain forward {
		type filter hook forward priority 0
		ip daddr 10.89.4.0/24 drop
		ip6 daddr fd89:4::/64 drop
		ip daddr 10.89.5.0/24 reject with icmp type host-unreachable
		ip6 daddr fd89:5::/64 reject with icmpv6 type no-route
		ip daddr 10.89.6.0/24 reject with icmp type admin-prohibited
		ip6 daddr fd89:6::/64 reject with icmpv6 type admin-prohibited
	}
}
"""


def set_patience(bed, retries, linear):
    """How often the pods repeat a SYN; the kernel's own: 6, and 4 of them a second after one another."""
    for place in ("a", "c"):
        for name, value in (("tcp_syn_retries", retries), ("tcp_syn_linear_timeouts", linear)):
            try:
                bed.agent(place).write_file(f"/proc/sys/net/ipv4/{name}", str(value))
            except OSError:
                check(name == "tcp_syn_linear_timeouts", f"no {name}")  # since 6.5


def network(bed):
    """Addresses that behave badly, once. 10.89.N.1 and fd89:N::1: 3 no route, 4 swallowed on the way,
    5 a router says that there is no way, 6 that it is prohibited."""
    if "connect" in bed.started:
        return
    bed.serve("b", "c")
    batch(bed, "a", "route add unreachable 10.89.3.0/24", "route add unreachable fd89:3::/64")
    batch(bed, "n1", *(f"route add {prefix} via {router}" for number_ in (4, 5, 6) for prefix, router in
                       ((f"10.89.{number_}.0/24", bed.address("n2")), (f"fd89:{number_}::/64", bed.address("n2", 6)))))
    with open(bed.dir + "/router.nft", "w", encoding="ascii") as file:
        file.write(ROUTER)
    bed.run("n1", "nft", "-f", bed.dir + "/router.nft")
    set_patience(bed, 1, 0)
    for place in ("a", "c"):
        bed.agent(place).write_file("/proc/sys/net/ipv4/tcp_fastopen", "3")
        bed.agent(place).write_file("/proc/sys/net/mptcp/enabled", "1")
    for path in ("ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"):
        bed.agent("n1").write_file(f"/proc/sys/net/{path}", "0")
    if not bed.plain:
        for value in (3, 4, 5, 6):
            for address in (f"10.89.{value}.1/32", f"fd89:{value}::1/128"):
                bed.kmtls(1, "peer", "add", address, "--id", "spiffe://example.org/nobody")
        for address in (bed.address("n2") + "/32", bed.address("n2", 6) + "/128"):
            bed.kmtls(1, "peer", "add", address, "--id", "spiffe://example.org/host")
        for address in (bed.address("x") + "/32", bed.address("x", 6) + "/128"):
            bed.kmtls(1, "peer", "add", address, "--id", "spiffe://example.org/foreign")
    bed.started["connect"] = True


def forget_stranger(bed):
    """After this the stranger is unmeshed again, as other modules expect."""
    known = {peer["prefix"] for peer in bed.kmtls(1, "peer", "list")}
    for address in {bed.address("x") + "/32", bed.address("x", 6) + "/128"} & known:
        bed.kmtls(1, "peer", "del", address)


def foreign_server(addresses, expired, valid, root):
    """In the agent of x: servers that a meshed client must not take, each on its port."""

    def context(certificate, trust, alpn):
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.num_tickets = 0
        made.load_cert_chain(certificate)
        made.load_verify_locations(trust)
        made.verify_mode = ssl.CERT_REQUIRED
        if alpn:
            made.set_alpn_protocols(["kmtls/1"])
        return made

    contexts = {EXPIRED: context(expired, root, True), REFUSES: context(valid, valid, True),
                NO_ALPN: context(valid, root, False)}

    def serve(connection, port):
        connection.settimeout(60)
        try:
            if port in contexts:
                with contexts[port].wrap_socket(connection, server_side=True) as tls:
                    tls.recv(1)
            elif port == RESETS:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif port == SPEAKS_PLAIN:
                connection.sendall(b"220 hello, who are you?\r\n")
                connection.recv(1000)
            elif port == SAYS_NOTHING:
                while connection.recv(1000):
                    pass
        except OSError:
            pass
        connection.close()

    def accept(listener, port):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, port), daemon=True).start()

    for address in addresses:
        for port in range(EXPIRED, ENDS + 1):
            listener = socket.create_server((address, port), backlog=64,
                                            family=socket.AF_INET6 if ":" in address else socket.AF_INET)
            threading.Thread(target=accept, args=(listener, port), daemon=True).start()


def start_foreign(bed):
    if "foreign" in bed.started:
        return
    root = f"{bed.env['state']}/root.pem"
    files = []
    for name, begin, end in (("expired", -7200, -3600), ("valid", -3600, 7200)):
        files.append(f"{bed.dir}/{name}.pem")
        subprocess.run([bed.tools + "/certify", root, "spiffe://example.org/foreign", str(begin), str(end), files[-1]],
                       check=True, timeout=30)
    bed.agent("x").call(foreign_server, (bed.address("x"), bed.address("x", 6)), *files, root)
    bed.started["foreign"] = True


# --- the table ----------------------------------------------------------------------------------------


def pair(bed, place, port):
    return bed.at(place, port), bed.at(place, port, 6)


def number(value, port):
    return f"10.89.{value}.1:{port}", f"[fd89:{value}::1]:{port}"


def rows(bed):
    """Rows that need no mesh to be asked come first."""
    found = [
        Row("ok", "OK", "at-once", *pair(bed, "b", 5001), False, PATIENT),
        Row("closed-host", "ECONNREFUSED", "at-once", *pair(bed, "n2", 4999), True, PATIENT),
        Row("closed-pod", "ECONNREFUSED", "at-once", *pair(bed, "b", 4999), True, PATIENT),
        Row("swallowed", "ETIMEDOUT", "budget", *number(4, 80), True, ""),
        Row("no-route", "EHOSTUNREACH", "at-once", *number(3, 80), True, PATIENT),
        Row("router-unreachable4", "EHOSTUNREACH", "at-once", number(5, 80)[0], None, True, PATIENT),
        Row("router-unreachable6", "ENETUNREACH", "at-once", None, number(5, 80)[1], True, PATIENT),
        Row("router-prohibited4", "EHOSTUNREACH", "at-once", number(6, 80)[0], None, True, PATIENT),
        Row("router-prohibited6", "EACCES", "at-once", None, number(6, 80)[1], True, PATIENT),
    ]
    if bed.plain:
        return found
    return found + [
        Row("denied-locally", "EPERM", "at-once", *pair(bed, "n1", 4999), False, ""),
        Row("wrong-identity", "ECONNREFUSED", "at-once", *pair(bed, "c", 5001), False, PATIENT),
        Row("expired", "ECONNREFUSED", "at-once", *pair(bed, "x", EXPIRED), False, PATIENT),
        Row("denied-by-server", "ECONNREFUSED", "at-once", *pair(bed, "x", REFUSES), False, PATIENT),
        Row("no-alpn", "ECONNREFUSED", "at-once", *pair(bed, "x", NO_ALPN), False, PATIENT),
        Row("speaks-plain", "ECONNREFUSED", "at-once", *pair(bed, "x", SPEAKS_PLAIN), False, PATIENT),
        Row("says-nothing", "ETIMEDOUT", "budget", *pair(bed, "x", SAYS_NOTHING), False, ""),
        Row("resets", "ECONNREFUSED", "at-once", *pair(bed, "x", RESETS), False, PATIENT),
        Row("ends", "ECONNREFUSED", "at-once", *pair(bed, "x", ENDS), False, PATIENT),
    ]


def jobs(table, modes=MODES):
    made = []
    for row in table:
        for mode in modes:
            for family in FAMILIES:
                to = row.to6 if family == "6" else row.to4
                if to:
                    words = [f"id={row.name}/{mode}/{family}", f"to={to}", f"mode={mode}", row.options,
                             "mapped" if family == "mapped" else ""]
                    made.append(",".join(word for word in words if word))
    return made


def judge(table, attempts, events=None):
    """Everything that is not as the table says."""
    wrong = []
    by_name = {row.name: row for row in table}
    for attempt in attempts:
        row = by_name[attempt["id"].split("/")[0]]
        blocking = "/blocking/" in attempt["id"]
        said = f"{attempt['id']}: {result(attempt)} after {attempt['ms'] / 1000:.1f} s"
        earliest, latest = (BUDGET_MS * 0.9, BUDGET_MS + LATE_MS) if row.when == "budget" else (0, AT_ONCE_MS)
        if result(attempt) != row.code:
            wrong.append(f"{said}, not {row.code}")
        elif not earliest <= attempt["ms"] <= latest:
            wrong.append(f"{said}, not within {earliest / 1000:.1f} to {latest / 1000:.0f} s")
        elif row.code == "EPERM" and attempt["said"] != "EPERM":
            wrong.append(f"{said}: connect() itself said {attempt['said']}")
        elif not blocking and row.code != "EPERM" and attempt["said"] not in ("EINPROGRESS", row.code):
            wrong.append(f"{said}: connect() itself said {attempt['said']}")
        elif events and not blocking and row.name.startswith("closed") and \
                events.get(attempt["id"], attempt["events"]) != attempt["events"]:
            wrong.append(f"{said}: events {attempt['events']:#x}, plain {events[attempt['id']]:#x}")
    return wrong


def risen(bed, counted, wanted):
    """What has not been counted as often. What an application has given up is noticed a little later."""
    end = time.monotonic() + 10
    while True:
        now = bed.counters(1)
        gained = {name: now.get(name, 0) - counted.get(name, 0) for name in wanted}
        missing = [name for name, least in wanted.items() if gained[name] < least]
        if not missing or time.monotonic() > end:
            return [f"counter {name} rose by {gained[name]}, not {wanted[name]}" for name in missing]
        time.sleep(0.2)


@case("the table: every reason x {blocking, poll, epoll} x {IPv4, IPv6, mapped}, and plain TCP beside it",
      timeout=150)
def table(bed):
    network(bed)
    whole = rows(bed)
    plain = [row for row in whole if row.plain]
    if bed.plain:
        attempts, totals = dial(bed, "a", *jobs(whole))
        wrong = judge(whole, attempts)
        check(not wrong, f"{len(wrong)} of {len(attempts)} are wrong:\n" + "\n".join(wrong))
        return f"{len(attempts)} connects in {totals['seconds']} s"
    start_foreign(bed)
    before = held_state(bed)
    prefixes = (bed.address("c") + "/32", bed.address("c", 6) + "/128")
    for prefix in prefixes:
        bed.kmtls(1, "peer", "del", prefix)
        bed.kmtls(1, "peer", "add", prefix, "--id", "spiffe://example.org/somebody-else")
    counted = bed.counters(1)
    try:
        reference = start_dial(bed, "a", jobs(plain), cgroup="x")
        attempts, totals = dial(bed, "a", *jobs(whole))
        unmeshed, _ = end_dial(reference)
    finally:
        for prefix in prefixes:
            bed.kmtls(1, "peer", "del", prefix)
            bed.kmtls(1, "peer", "add", prefix, "--id", bed.env["c_id"])
    equal(len(attempts), len(jobs(whole)), "connects that came back")
    wrong = ["plain: " + line for line in judge(plain, unmeshed)]
    events = {attempt["id"]: attempt["events"] for attempt in unmeshed if attempt["said"] == "EINPROGRESS"}
    wrong += judge(whole, attempts, events)
    wrong += risen(bed, counted, {"wrong-peer": 9, "svid-expired": 9, "refused-unknown-ca": 9, "not-mesh": 18, "retried": 15,
                                  "local-gone": 9, "no-peer": 9, "dial-unreachable": 15})
    check(not wrong, f"{len(wrong)} of {len(attempts)} are wrong:\n" + "\n".join(wrong))
    settle(bed, before)
    slowest = max((attempt["ms"], attempt["id"]) for attempt in attempts if "budget" not in
                  next(row.when for row in whole if row.name == attempt["id"].split("/")[0]))
    return f"{len(attempts)} connects in {totals['seconds']} s; slowest that is answered: {slowest[1]} {slowest[0]:.0f} ms"


@case("silence ends with the application's own patience: SO_SNDTIMEO, TCP_USER_TIMEOUT, TCP_SYNCNT")
def patience(bed):
    network(bed)
    before = held_state(bed)
    gone = 0 if bed.plain else bed.counter(1, "local-gone")
    made = []
    for family, to in (("4", number(4, 80)[0]), ("6", number(4, 80)[1])):
        made += [f"id=sndtimeo/{family},to={to},sndtimeo=700", f"id=user_timeout/{family},to={to},user_timeout=1500",
                 f"id=gives_up/{family},to={to},mode=poll,wait=400", f"id=closes/{family},to={to},mode=none"]
    reference = None if bed.plain else start_dial(bed, "a", made, cgroup="x")
    attempts, _ = dial(bed, "a", *made)
    plain = {attempt["id"]: attempt for attempt in end_dial(reference)[0]} if reference else {}
    wrong = []
    for attempt in attempts:
        name = attempt["id"].split("/")[0]
        said = result(attempt)
        wanted, earliest, latest = {"sndtimeo": ("EINPROGRESS", 690, 4000), "user_timeout": ("ETIMEDOUT", 1000, 6000),
                                    "gives_up": ("gave up", 390, 4000), "closes": ("EINPROGRESS", 0, 4000)}[name]
        if said != wanted or not earliest <= attempt["ms"] <= latest:
            wrong.append(f"{attempt['id']}: {said} after {attempt['ms']:.0f} ms")
        if plain and (result(plain[attempt["id"]]) != said or abs(plain[attempt["id"]]["ms"] - attempt["ms"]) > 1500):
            wrong.append(f"{attempt['id']}: {said} after {attempt['ms']:.0f} ms, plain "
                         f"{result(plain[attempt['id']])} after {plain[attempt['id']]['ms']:.0f} ms")
    check(not wrong, "\n".join(wrong))
    # Not when the dial times out, but as soon as the application has gone.
    settle(bed, before, 6)
    if not bed.plain:
        # Those that close at once may never be dialled; with TCP_USER_TIMEOUT both sides end at the same time.
        check(bed.counter(1, "local-gone") >= gone + 4, "the daemon was told that the applications have gone")


@case("TCP Fast Open, both ways to ask for it, with and without a cookie; refused too", timeout=60)
def fast_open(bed):
    network(bed)
    before = held_state(bed)
    for sysctl in ("3", "7"):  # 4: send data with the SYN although there is no cookie
        bed.agent("a").write_file("/proc/sys/net/ipv4/tcp_fastopen", sysctl)
        made = []
        for family, place in ((4, "b"), (6, "b")):
            for how in ("send", "connect"):
                made += [f"id=ok/{how}/{family},to={bed.at(place, 5001, family)},fastopen={how},{PATIENT}",
                         f"id=closed/{how}/{family},to={bed.at(place, 4999, family)},fastopen={how},{PATIENT}"]
        attempts, _ = dial(bed, "a", *made)
        for attempt in attempts:
            ended = attempt["answer"] if attempt["errno"] == "OK" else attempt["errno"]
            equal(ended, "OK" if attempt["id"].startswith("ok") else "ECONNREFUSED", f"{attempt['id']} ({sysctl})")
    bed.agent("a").write_file("/proc/sys/net/ipv4/tcp_fastopen", "3")
    settle(bed, before)


@case("MPTCP clients connect, are refused, and are told the true addresses")
def mptcp(bed):
    network(bed)
    before = held_state(bed)
    made = []
    for mode in MODES:
        for family in (4, 6):
            made += [f"id=ok/{mode}/{family},to={bed.at('b', 5001, family)},mptcp,mode={mode},{PATIENT}",
                     f"id=closed/{mode}/{family},to={bed.at('b', 4999, family)},mptcp,mode={mode},{PATIENT}"]
        made.append(f"id=ok/{mode}/mapped,to={bed.at('b', 5001)},mptcp,mapped,mode={mode},{PATIENT}")
    attempts, _ = dial(bed, "a", *made)
    for attempt in attempts:
        equal(result(attempt), "OK" if attempt["id"].startswith("ok") else "ECONNREFUSED", str(attempt))
        if attempt["id"].startswith("ok"):
            version = 6 if attempt["id"].endswith("6") else 4
            equal(attempt["local"].rsplit(":", 1)[0].strip("[]"), bed.address("a", version), "getsockname")
    settle(bed, before)


@case("a pod enrolled with --connect at-once: connect() succeeds at once, the truth comes later", mesh=True)
def at_once(bed):
    network(bed)
    before = held_state(bed)
    arguments = ("c", "--netns", "/run/netns/kt-c", "--cgroup", bed.env["cgroup"] + "/c", "--id", bed.env["c_id"])
    bed.kmtls(1, "pod", "del", "c")
    bed.kmtls(1, "pod", "add", *arguments, "--connect", "at-once")
    held = bed.counter(1, "held")
    try:
        equal([pod["connect"] for pod in bed.kmtls(1, "pod", "list")], ["held", "at-once"], "what pod list says")
        attempts, _ = dial(bed, "c", *(f"id={name}{family},to={bed.at('b', port, family)}" for family in (4, 6)
                                       for name, port in (("ok", 5001), ("closed", 4999))))
        for attempt in attempts:
            good = attempt["id"].startswith("ok")
            # The RST that tells it later may overtake the return of connect().
            check(attempt["errno"] == "OK" or not good and attempt["errno"] == "ECONNRESET", str(attempt))
            if attempt["errno"] != "OK":
                continue
            check(attempt["answer"] in (("OK",) if good else ("ECONNRESET", "ENODATA", "EPIPE")), str(attempt))
        equal(bed.counter(1, "held"), held, "SYNs held")
    finally:
        bed.kmtls(1, "pod", "del", "c")
        bed.kmtls(1, "pod", "add", *arguments)
    settle(bed, before)


@case("the daemon's addresses are taken: bind() says EADDRINUSE", mesh=True)
def bind_taken(bed):
    refuse_binds(bed)


def refuse_binds(bed):
    before = bed.agent("a").call(try_binds)
    for what, code in before:
        equal(errno.errorcode.get(code, code), "EADDRINUSE", f"bind to {what}")
    for what, code in bed.agent("a").call(try_binds, True):
        equal(code, 0, f"bind to {what}")


def try_binds(allowed=False):
    """In the agent: bind() to addresses of the daemon's, or to those beside them."""
    taken = [("127.64.0.1", 0), ("127.64.0.1", 15001), ("127.127.255.255", 80), ("127.255.255.254", 15001),
             ("127.255.255.254", 4711), ("::1", 1), ("::1", 2), ("::ffff:127.64.0.1", 15001),
             ("::ffff:127.255.255.254", 1)]
    free = [("127.63.255.255", 0), ("127.128.0.1", 0), ("127.0.0.1", 15002), ("::1", 15002), ("::1", 0), ("::ffff:127.0.0.1", 0)]
    codes = []
    for address, port in free if allowed else taken:
        for reuse in (False, True):
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
                if reuse:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                try:
                    sock.bind((address, port))
                    codes.append((f"{address} {port}", 0))
                except OSError as error:
                    codes.append((f"{address} {port}", error.errno))
    return codes


@case("a connect that waits for an overfull accept queue ends in bounded time, and leaves nothing", timeout=150)
def accept_queue(bed):
    network(bed)
    before = held_state(bed)
    listener = bed.agent("b").socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((bed.address("b"), 5610))
    listener.listen(0)  # the kernel takes one more
    start = time.monotonic()
    attempts, _ = dial(bed, "a", f"id=q,to={bed.at('b', 5610)},mode=poll,mute,count=8,wait=40000,hold=500", timeout=60)
    ended = collections.Counter(map(result, attempts))
    if bed.plain:
        check(sum(ended.values()) == 8 and set(ended) <= {"OK", "ETIMEDOUT"}, f"{dict(ended)}")
    else:
        check(set(ended) <= {"OK", "ETIMEDOUT"} and 1 <= ended["OK"] < 8, f"{dict(ended)}")
    check(time.monotonic() - start < 45, f"it took {time.monotonic() - start:.0f} s")
    listener.close()
    settle(bed, before, 75)
    return f"{dict(ended)}"
