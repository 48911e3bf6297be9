# SPDX-License-Identifier: Apache-2.0
"""Addresses and ports: both ends always name the same four, and none runs out early."""
from lib.bed import SERVE_DUAL
from lib.tap import case, check, equal, until


def own(bed, pod):
    options = []
    for version in (4, 6):
        if bed.env[f"{pod}{version}"]:
            options += ["-s", bed.address(pod, version)]
    return options


@case("200 threads connect again and again: right server, right addresses at both ends", timeout=330)
def storm(bed):
    rounds = bed.part(5)
    # A port range that makes every port be used again and again.
    bed.agent("a").write_file("/proc/sys/net/ipv4/ip_local_port_range", f"30000 {29999 + min(1000, 100 * rounds)}")
    result = bed.load("a", "storm", "-t", 200, "-r", rounds, *own(bed, "a"), bed.at("b", 5001),
                      bed.at("b", 5002, 6), bed.at("b", SERVE_DUAL), bed.at("d", 5001), bed.at("b", 5003, 6),
                      timeout=320)
    equal(result["ok"], 200 * rounds, "connects that were right")
    equal(result["reached"], [40 * rounds] * 5, "connects by destination")
    bed.agent("a").write_file("/proc/sys/net/ipv4/ip_local_port_range", "32768 60999")
    stray = sum(bed.counter(node, "stray-reset") for node in (1, 2)) if not bed.plain else 0
    return f"{result['ok']} in {result['seconds']} s, slowest {result['slowest']} s, stray resets dropped: {stray}"


def port_range(bed, version, destinations):
    ports = 100 if bed.scale > 1 else 40
    bed.agent("c").write_file("/proc/sys/net/ipv4/ip_local_port_range", f"4{version}000 {40000 + version * 1000 + ports - 1}")
    try:
        result = bed.load("c", "storm", "-t", 3 * ports, "-H", *own(bed, "c"), *destinations)
        equal(result["ok"], 3 * ports, "connections open at once")
        equal(result["reached"], [ports] * 3, "connections by destination")
    finally:
        bed.agent("c").write_file("/proc/sys/net/ipv4/ip_local_port_range", "32768 60999")
    return f"{ports} ports, {result['seconds']} s"


@case("as many ports as connections to each of three destinations are enough, IPv4")
def few_ports4(bed):
    return port_range(bed, 4, [bed.at("b", 5001), bed.at("b", 5002), bed.at("d", 5001)])


@case("as many ports as connections to each of three destinations are enough, IPv6")
def few_ports6(bed):
    return port_range(bed, 6, [bed.at("b", port, 6) for port in (5001, 5002, 5003)])


@case("an application that binds its own address and port keeps them, also when it does so again")
def bound(bed):
    for version in (4, 6):
        source = bed.at("a", 23456, version)
        for _ in range(2):
            bed.load("a", "storm", "-b", source, *own(bed, "a"), bed.at("b", 5001, version))
        agent = bed.agent("a")
        listener = bed.agent("b").listen(bed.address("b", version), 5600)
        client = agent.socket(*([10] if version == 6 else [2]))
        client.bind((bed.address("a", version), 23457))  # without SO_REUSEADDR
        client.connect((bed.address("b", version), 5600))
        _, address = listener.accept()
        equal(address[:2], (bed.address("a", version), 23457), "what accept says")
        listener.close()


@case("an application that binds its address but no port")
def bound_address(bed):
    for version in (4, 6):
        bed.load("a", "storm", "-b", bed.at("a", 0, version), *own(bed, "a"), bed.at("b", 5002, version))


@case("SO_BINDTODEVICE")
def bind_to_device(bed):
    for version in (4, 6):
        bed.load("a", "storm", "-d", "eth0", *own(bed, "a"), bed.at("b", 5003, version))


@case("an IPv6 socket connects to an IPv4 address (::ffff:)")
def mapped(bed):
    listener = bed.agent("b").listen(bed.address("b"), 5601)
    client = bed.agent("a").socket(10)
    client.connect(("::ffff:" + bed.address("b"), 5601))
    server, address = listener.accept()
    equal(client.getpeername()[:2], ("::ffff:" + bed.address("b"), 5601), "getpeername")
    equal(client.getsockname()[0], "::ffff:" + bed.address("a"), "getsockname")
    equal(address, (bed.address("a"), client.getsockname()[1]), "accept")
    client.sendall(b"x")
    equal(server.recv(10), b"x", "what arrives")


@case("two pods of one node", timeout=60)
def same_node(bed):
    """Between them the traffic does not reach the wire, so a capture of its own looks at it."""
    file = bed.dir + "/same-node.pcap"
    process = bed.listen_on_wire("n1", "pod-a", file)
    for version in (4, 6):
        result = bed.load("a", "storm", "-t", 5, "-r", 2, *own(bed, "a"), bed.at("c", 5001, version))
        equal(result["ok"], 10, "connects")
    bed.load("c", "storm", *own(bed, "c"), bed.at("c", 5002))  # to itself
    bed.stop_listening(process)
    seen = bed.wirecheck(file, ["KMTLS-PLAINTEXT-MARKER"])
    equal(seen["connections"], 20, "connections between a and c")
    if not bed.plain:
        equal((seen["tls"], seen["found"]["KMTLS-PLAINTEXT-MARKER"]), (20, 0), "TLS connections, markers")


@case("a pod without IPv6 connects and is connected to")
def no_ipv6(bed):
    result = bed.load("d", "storm", "-t", 4, *own(bed, "d"), bed.at("b", 5001), bed.at("c", 5002))
    equal(result["ok"], 4, "connects of d")
    result = bed.load("b", "storm", "-t", 4, *own(bed, "b"), bed.at("d", 5001), bed.at("d", 5002))
    equal(result["ok"], 4, "connects to d")
    client = bed.agent("d").socket(10)
    result = client.connect_ex((bed.address("b", 6), 5001))
    check(result in (99, 101), f"connect to an IPv6 address gives errno {result}, not EADDRNOTAVAIL or ENETUNREACH")


@case("kmtls flows names both ends while a connection is open", mesh=True)
def flows(bed):
    for version in (4, 6):
        listener = bed.agent("b").listen(bed.address("b", version), 5602)
        client = bed.agent("a").connect(bed.address("b", version), 5602)
        server, _ = listener.accept()
        client.sendall(b"KMTLS-PLAINTEXT-MARKER" * 100)
        server.recv_exactly(2200)
        port = client.getsockname()[1]

        def find(node, role, place, number):
            for flow in bed.flows(node):
                if flow["role"] == role and flow["self"]["port"] == number and \
                        flow["self"]["address"] == bed.address(place, version):
                    return flow
            return None

        for node, role, near, near_port, far, far_port in ((1, "client", "a", port, "b", 5602),
                                                           (2, "server", "b", 5602, "a", port)):
            flow = until(lambda: find(node, role, near, near_port), f"the flow is listed on node {node}", 5)
            equal(flow["state"], "established", "state")
            equal((flow["self"]["id"], flow["peer"]["id"]), (bed.env[near + "_id"], bed.env[far + "_id"]), "identities")
            equal((flow["peer"]["address"], flow["peer"]["port"]), (bed.address(far, version), far_port), "peer")
            equal((flow["ktls_tx"], flow["ktls_rx"]), ("sw", "sw"), "kernel TLS")
            check(flow["cipher"].startswith("TLS_"), f"cipher is {flow['cipher']!r}")
            moved = flow["bytes_sent" if role == "client" else "bytes_received"]
            check(moved >= 2200, f"only {moved} bytes on the wire for 2200 of payload")
        server.close()
        client.close()
        listener.close()
