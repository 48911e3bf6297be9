# SPDX-License-Identifier: Apache-2.0
"""Two builds of kmtls with different versions of OpenSSL: established flows go from one to the other, and both understand
each other. With --long. The other build is in build/with-3.5, or KMTLS_OTHER_BUILD=DIR:

    vmtest/openssl && make OPENSSL=build/openssl-3.5 O=build/with-3.5"""
import os

from lib import balance
from lib.bed import ROOT
from lib.tap import Skip, case, check, equal
from lib.traffic import Traffic

from .crash import RATE, ROUTES
from .resumption import connects
from .symmetric import switched_on, symmetric


def other_build(bed):
    if bed.scale == 1:
        raise Skip("takes long: --long")
    path = os.path.join(ROOT, os.environ.get("KMTLS_OTHER_BUILD", "build/with-3.5"))
    if not os.path.exists(path + "/kmtlsd"):
        raise Skip(f"{path}/kmtlsd is not there (vmtest/openssl)")
    if os.path.realpath(path) == os.path.realpath(bed.build):
        raise Skip(f"{path} is what all else here is run with")
    return path


def move(bed, node, build):
    """The node's daemon becomes that of the build; the OpenSSL it has then."""
    former = bed.daemon_pid(node)
    bed.kmtls(node, "upgrade", "--program", build + "/kmtlsd")
    bed.wait_upgraded(node, former)
    keeper = bed.daemon_pid(node)
    equal(os.readlink(f"/proc/{keeper}/exe"), os.path.realpath(build + "/kmtlsd"), f"what node {node} runs")
    return bed.kmtls(node, "status")["openssl"]


def understand(bed, what):
    """Each kind of handshake, each daemon in each role."""
    for near, far in ("ab", "ba"):
        where = {"near": near, "far": far}
        connects(bed, False, f"{what}, {near} to {far}: full", **where)
        connects(bed, True, f"{what}, {near} to {far}: resumed", **where)
    with switched_on(bed, 1, 2):
        for near, far in ("ab", "ba"):
            connects(bed, False, f"{what}, {near} to {far}: full", near=near, far=far)
            symmetric(bed, f"{what}, {near} to {far}: symmetric", near=near, far=far)


@case("a daemon with another OpenSSL: flows go over to it and back, byte by byte, and all kinds of handshakes work between both",
      mesh=True, timeout=600, kernel="6.12")
def other(bed):
    build = other_build(bed)
    before = balance.take(bed)
    at_first = [bed.kmtls(node, "status")["openssl"] for node in (1, 2)]
    seen = []
    with Traffic(bed, ROUTES, 3, RATE, patience=300) as traffic:
        try:
            for node, to in ((1, build), (2, build), (1, bed.build), (2, bed.build)):
                version = move(bed, node, to)
                if to == build:
                    check(version != at_first[node - 1], f"both builds have OpenSSL {version}")
                else:
                    equal(version, at_first[node - 1], "OpenSSL of before")
                seen.append(version)
                understand(bed, f"{len(seen)}: node {node} with {version}")
        finally:
            for node in (1, 2):
                if os.readlink(f"/proc/{bed.daemon_pid(node)}/exe") != os.path.realpath(bed.build + "/kmtlsd"):
                    move(bed, node, bed.build)
        said = traffic.stop_whole(300)
    balance.settle(bed, before)
    return f"{' '.join(at_first)} -> {' '.join(seen)}; {said}"
