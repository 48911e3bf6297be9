# SPDX-License-Identifier: Apache-2.0
"""stunnel as a sidecar of each pod. It has a thread for each connection."""
from . import Arm
from ..bed import ADDRESS, PORTS, SUITES, wait_port, wire_port

COMMON = """
foreground = yes
debug = warning
syslog = no
pid =
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
"""

CLIENT = """
[port-{port}]
client = yes
accept = 127.0.0.1:{port}
connect = {b}:{wire}
cert = {pki}/client.pem
CAfile = {pki}/ca.pem
verifyChain = yes
checkHost = server.bench
sslVersionMin = TLSv1.3
ciphersuites = {suite}
sessionResume = {resume}
"""

SERVER = """
[port-{port}]
accept = {b}:{wire}
connect = 127.0.0.1:{port}
cert = {pki}/server.pem
CAfile = {pki}/ca.pem
verifyChain = yes
sslVersionMin = TLSv1.3
ciphersuites = {suite}
sessionResume = {resume}
"""


class Stunnel(Arm):
    name = "stunnel"
    title = "stunnel mTLS pair"
    packages = ("stunnel4", "libssl3")
    wire_offset = wire_port(0)

    def up(self, suite, resume):
        values = {"b": ADDRESS["b"], "pki": self.bed.pki, "suite": SUITES[suite], "resume": "yes" if resume else "no"}
        for place, text in (("b", SERVER), ("a", CLIENT)):
            path = f"{self.bed.dir}/stunnel-{place}.conf"
            with open(path, "w", encoding="ascii") as file:
                file.write(COMMON)
                for port in PORTS.values():
                    file.write(text.format(port=port, wire=wire_port(port), **values))
            self.running.append(self.bed.spawn(place, "stunnel4", path, group="proxy"))
        for port in PORTS.values():
            wait_port("b", wire_port(port), self.running[0])
            wait_port("a", port, self.running[1])

    def address(self, port):
        return "127.0.0.1", port


ARM = Stunnel
