# SPDX-License-Identifier: Apache-2.0
"""Bytes: transfers of random sizes, there, back, and there and back at the same time."""
from lib.tap import case, equal


def transfers(bed, pod, count, seed, *destinations):
    count = bed.part(count)
    result = bed.load(pod, "transfer", "-t", 20, "-r", count, "-e", seed, *destinations, timeout=310)
    equal(result["ok"], count, "transfers with equal SHA-256")
    return f"{count}: {result['bytes'] / 1e6:.0f} MB in {result['seconds']} s, slowest {result['slowest']} s"


@case("transfers of 1 byte to 1 MiB from a to b and d, 20 at once", timeout=320)
def forward(bed):
    return transfers(bed, "a", 600, 1, bed.at("b", 5001), bed.at("b", 5002, 6), bed.at("d", 5003))


@case("transfers of 1 byte to 1 MiB from b to c, 20 at once", timeout=320)
def backward(bed):
    return transfers(bed, "b", 400, 2, bed.at("c", 5001), bed.at("c", 5002, 6))
