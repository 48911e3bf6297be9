# SPDX-License-Identifier: Apache-2.0
"""What is measured. An arm is a way from pod a to an application in pod b, with these verbs:

    up(suite, resume)      makes it ready, for TLS with that cipher suite, resuming sessions or never; resume "symmetric":
                           without (EC)DHE
    address(port)          what a client in a dials to reach the application on that port of b: (host, port)
    down()                 takes all of it away

and with these facts: name, title, packages (whose versions are told), tls (it makes TLS connections), relays
(it is a choice for a mesh, not only a measure for one), kernel_tls (it needs kernel TLS), symmetric (sessions can
be resumed without (EC)DHE, too), environment (of clients and applications), missing (cells that it does not have, and why),
processes() (whose memory counts).
"""
import importlib

NAMES = ("direct", "ktls", "kmtls", "kmtls-accel", "nginx", "haproxy", "stunnel", "wireguard")


class Arm:
    name = ""
    title = ""
    packages = ()
    tls = True
    relays = True
    kernel_tls = False
    wire_offset = 0  # from the application's port to that of TLS on the wire
    symmetric = False  # it has handshakes with symmetric cryptography only
    missing = {}

    def __init__(self, bed):
        self.bed = bed
        self.environment = {}
        self.running = []

    @classmethod
    def unavailable(cls):
        """Why it cannot be measured at all; None: it can."""
        return None

    def up(self, suite, resume):
        raise NotImplementedError

    def address(self, port):
        raise NotImplementedError

    def down(self):
        for process in reversed(self.running):
            self.bed.stop(process)
        self.running.clear()

    def processes(self):
        from ..bed import descendants

        return [pid for process in self.running for pid in descendants(process.pid)]


def find(name):
    module = importlib.import_module("." + name.replace("-", "_"), __name__)
    return module.ARM


def find_all():
    return [find(name) for name in NAMES]
