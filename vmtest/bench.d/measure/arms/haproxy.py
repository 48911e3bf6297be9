# SPDX-License-Identifier: Apache-2.0
"""HAProxy in TCP mode as a sidecar of each pod. One thread each."""
from . import Arm
from ..bed import ADDRESS, PORTS, SUITES, wait_port, wire_port

COMMON = """
global
	nbthread 1
	maxconn 8192
	ssl-default-bind-options ssl-min-ver TLSv1.3
	ssl-default-server-options ssl-min-ver TLSv1.3
defaults
	mode tcp
	timeout connect 60s
	timeout client 1h
	timeout server 1h
"""

CLIENT = """
listen port-{port}
	bind 127.0.0.1:{port}
	server b {b}:{wire} ssl verify required verifyhost server.bench ca-file {pki}/ca.pem crt {pki}/client.pem ciphersuites {suite} {reuse}
"""

SERVER = """
listen port-{port}
	bind {b}:{wire} ssl crt {pki}/server.pem ca-file {pki}/ca.pem verify required ciphersuites {suite} {tickets}
	server application 127.0.0.1:{port}
"""


class Haproxy(Arm):
    name = "haproxy"
    title = "HAProxy mTLS sidecar pair"
    packages = ("haproxy", "libssl3")
    wire_offset = wire_port(0)

    def up(self, suite, resume):
        values = {"b": ADDRESS["b"], "pki": self.bed.pki, "suite": SUITES[suite],
                  "reuse": "" if resume else "no-ssl-reuse", "tickets": "" if resume else "no-tls-tickets"}
        for place, text in (("b", SERVER), ("a", CLIENT)):
            path = f"{self.bed.dir}/haproxy-{place}.cfg"
            with open(path, "w", encoding="ascii") as file:
                file.write(COMMON)
                for port in PORTS.values():
                    file.write(text.format(port=port, wire=wire_port(port), **values))
            self.running.append(self.bed.spawn(place, "haproxy", "-db", "-f", path, group="proxy"))
        for port in PORTS.values():
            wait_port("b", wire_port(port), self.running[0])
            wait_port("a", port, self.running[1])

    def address(self, port):
        return "127.0.0.1", port


ARM = Haproxy
