# SPDX-License-Identifier: Apache-2.0
"""The application itself on kernel TLS, the ideal: a library that is loaded into clients and applications does
the mutual handshake inside connect() and accept() and gives the keys to the kernel (selftests/vm/preload/ktls.c)."""
from . import Arm
from ..bed import ADDRESS, SUITES


class Ktls(Arm):
    name = "ktls"
    title = "the application itself on kernel TLS"
    relays = False
    kernel_tls = True
    packages = ("libssl3",)

    def up(self, suite, resume):
        self.environment = {"LD_PRELOAD": self.bed.dir + "/ktls.so", "BENCH_KTLS": self.bed.pki,
                            "BENCH_SUITE": SUITES[suite], **({"BENCH_RESUME": "1"} if resume else {})}

    def address(self, port):
        return ADDRESS["b"], port


ARM = Ktls
