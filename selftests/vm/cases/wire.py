# SPDX-License-Identifier: Apache-2.0
"""What somebody on the wire has seen of all the tests so far."""
import os
import re

from lib.bed import MARKER
from lib.tap import case, check, equal

IPERF = "012345678901234567890123456789012345678901234567"
# Must be in the capture: they prove that the search finds what is there.
PLAIN = ("plain-dns-query", "UDP-IN-THE-CLEAR", "TEXT-ON-THE-EXCLUDED-PORT", "STRANGER-REQUEST")


@case("on the wire there are TLS records and nothing else, and no byte of any payload")
def no_plaintext(bed):
    told = bed.stop_capture()
    captured, dropped = (int(re.search(rf"(\d+) packets? {what}", told).group(1))
                         for what in ("captured", "dropped by kernel"))
    equal(dropped, 0, f"packets tcpdump missed of {captured}")
    plain = [text for text in PLAIN if not (bed.plain and text == "STRANGER-REQUEST")]
    seen = bed.wirecheck(bed.capture, [MARKER, IPERF, *plain], [bed.env["excluded_port"]])
    equal(seen["packets"], captured, "packets read")
    if not bed.only:
        for text in plain:
            check(seen["found"][text], f"'{text}' should be in the capture, in the clear")
    if bed.plain:
        check(seen["found"][MARKER] > 3 and seen["plaintext"] > 3, f"plain TCP, and no plaintext seen: {seen}")
        return f"{captured} packets"
    equal(seen["found"][MARKER], 0, f"'{MARKER}' in the clear")
    equal(seen["found"][IPERF], 0, "iperf3's payload in the clear")
    equal(seen["plaintext"], 0, f"connections between pods that are not TLS (e.g. {seen['example']})")
    equal(seen["gaps"], 0, f"connections that could not be followed (e.g. {seen['example']})")
    check(seen["tls"] > 0, "no TLS connection seen")
    equal((seen["client_hellos"], seen["alpn_kmtls"]), (seen["tls"], seen["tls"]), "ClientHellos, with ALPN kmtls/1")
    # A connection cut during the handshake has no ServerHello; none of the tests does that often.
    check(seen["tls13"] >= seen["tls"] * 0.99, f"{seen['tls13']} of {seen['tls']} connections negotiated TLS 1.3")
    check(seen["records"]["application_data"] >= 4 * seen["tls13"], f"records: {seen['records']}")
    os.unlink(bed.capture)
    return (f"{captured} packets, {seen['bytes'] / 1e6:.0f} MB, {seen['tls']} TLS 1.3 connections, "
            f"{seen['records']['application_data']} records of application data")
