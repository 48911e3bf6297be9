# SPDX-License-Identifier: Apache-2.0
"""That the arms of vmtest/bench are what they say, on two pods of its own beside the testbed: right bytes, mutual TLS
1.3 on the wire with the suite asked for, sessions resumed where they should be and nowhere else. What they cost is
no matter here. Not for --plain: an application of the mesh sees none of it."""
import subprocess
import sys
import time

from lib import bed as beds
from lib.tap import Failure, case, check, contains, equal

sys.path.insert(0, beds.ROOT + "/vmtest/bench.d")

from measure import arms, smoke  # noqa: E402 pylint: disable=wrong-import-position
from measure.bed import PORTS, Bed, Trouble, inside  # noqa: E402 pylint: disable=wrong-import-position
from measure.session import Session  # noqa: E402 pylint: disable=wrong-import-position

SIZE = 1 << 19
SUITES = {"aes128": 0x1301, "aes256": 0x1302}


def own_certificate(bed, pair, arm):
    """What a client of our own shows to be let in: certificate and key, one file."""
    if not arm.name.startswith("kmtls"):
        return pair.pki + "/client.pem"
    path = pair.dir + "/own.pem"
    subprocess.run([bed.tools + "/certify", pair.dir + "/root.pem", "spiffe://example.org/ns/bench/sa/a", "-3600", "3600", path],
                   check=True, timeout=60)
    return path


def wire(session, capture, suite, connections, resumed):
    """What an eavesdropper has seen of so many connections, of which the last ones were resumed."""
    seen, hellos = capture.stop()
    if session.arm.name == "direct":
        check(seen["found"][0] > SIZE // 4096, f"the search finds only {seen['found']} of what is in the clear")
        return
    equal(seen["found"], [0], f"plaintext on the wire of {session.arm.name}")
    if not session.arm.tls:
        equal((hellos, seen["packets"] > 100), ([], True), "TCP outside of the tunnel, and packets of it")
        return
    expected = [{"tls13": True, "suite": SUITES[suite], "resumed": i >= connections - resumed} for i in range(connections)]
    equal(hellos, expected, "what the servers agreed to")
    equal(seen["plaintext"], 0, "connections that are not TLS record for record")


def right_bytes(session, connections):
    for _ in range(connections):
        said = smoke.echo(session, SIZE)
        equal((said["bytes"], said["received"]), (SIZE, said["sent"]), "bytes there and back, and their SHA-256")


def refused_without_certificate(bed, pair, session):
    """And with one it is let in, so it was the certificate."""
    port = PORTS["load"] + session.arm.wire_offset
    answer, error = smoke.knock(inside, port, own_certificate(bed, pair, session.arm))
    equal(answer, smoke.message(), f"the answer to a client with a certificate ({error})")
    answer, error = smoke.knock(inside, port)
    equal(answer, b"", "the answer to a client without a certificate")
    # nginx takes the handshake to its end and then closes the connection.
    contains(error or "closed", "closed" if session.arm.name == "nginx" else "certificate required", "what it is told")


def with_arm(bed, pair, name):
    arm = arms.find(name)
    with Session(pair, name, "aes128", False) as session:
        capture = smoke.Capture(pair)
        right_bytes(session, 1)
        wire(session, capture, "aes128", 1, 0)
        if arm.tls:
            refused_without_certificate(bed, pair, session)
    if not arm.tls:
        return
    resumes = "conn_resumed" not in arm.missing
    with Session(pair, name, "aes256", resumes) as session:
        capture = smoke.Capture(pair)
        if name == "ktls":  # its sessions are those of a process
            session.bed.run("a", bed.tools + "/benchload", "connect", "%s:%d" % session.arm.address(PORTS["load"]), "1", "1",
                            env=session.arm.environment)
            wire(session, capture, "aes256", 6, 5)
        else:
            right_bytes(session, 2)
            wire(session, capture, "aes256", 2, 1 if resumes else 0)


def smoke_of(bed, name):
    reason = arms.find(name).unavailable()
    check(not reason, f"not available: {reason}")
    pair, start = Bed(), time.monotonic()
    try:
        pair.up()
        up = time.monotonic()
        with_arm(bed, pair, name)
        return f"{up - start:.1f} s for the pods"
    except Trouble as trouble:
        raise Failure(f"{trouble}\n{pair.show_log()}") from None
    finally:
        pair.down()


@case("vmtest/bench, direct: bytes arrive, and are found in the capture", mesh=True, kernel="6.12")
def direct(bed):
    return smoke_of(bed, "direct")


@case("vmtest/bench, ktls: mutual TLS, both suites, resumed or not, the right bytes", mesh=True, kernel="6.12")
def ktls(bed):
    return smoke_of(bed, "ktls")


@case("vmtest/bench, kmtls: mutual TLS, both suites, resumed or not, the right bytes", mesh=True, kernel="6.12")
def kmtls(bed):
    return smoke_of(bed, "kmtls")


@case("vmtest/bench, kmtls-accel: mutual TLS, both suites, the right bytes", mesh=True, kernel="6.12")
def kmtls_accel(bed):
    return smoke_of(bed, "kmtls-accel")


@case("vmtest/bench, nginx: mutual TLS, both suites, resumed or not, the right bytes", mesh=True, kernel="6.12")
def nginx(bed):
    return smoke_of(bed, "nginx")


@case("vmtest/bench, haproxy: mutual TLS, both suites, resumed or not, the right bytes", mesh=True, kernel="6.12")
def haproxy(bed):
    return smoke_of(bed, "haproxy")


@case("vmtest/bench, stunnel: mutual TLS, both suites, resumed or not, the right bytes", mesh=True, kernel="6.12")
def stunnel(bed):
    return smoke_of(bed, "stunnel")


@case("vmtest/bench, wireguard: the right bytes, none of them in the clear", mesh=True, kernel="6.12")
def wireguard(bed):
    return smoke_of(bed, "wireguard")
