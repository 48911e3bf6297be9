# SPDX-License-Identifier: Apache-2.0
"""nginx, stream module, as a sidecar of each pod: the data plane of NGINX Service Mesh. One worker each."""
from . import Arm
from ..bed import ADDRESS, PORTS, SUITES, wait_port, wire_port

COMMON = """
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {dir}/nginx-{side}.pid;
error_log stderr warn;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events {{ worker_connections 8192; }}
stream {{
	access_log off;
	proxy_timeout 1h;
"""

CLIENT = """
	proxy_ssl on;
	proxy_ssl_protocols TLSv1.3;
	proxy_ssl_conf_command Ciphersuites {suite};
	proxy_ssl_certificate {pki}/client.pem;
	proxy_ssl_certificate_key {pki}/client.pem;
	proxy_ssl_trusted_certificate {pki}/ca.pem;
	proxy_ssl_verify on;
	proxy_ssl_name server.bench;
	proxy_ssl_session_reuse {reuse};
"""

SERVER = """
	ssl_protocols TLSv1.3;
	ssl_conf_command Ciphersuites {suite};
	ssl_certificate {pki}/server.pem;
	ssl_certificate_key {pki}/server.pem;
	ssl_client_certificate {pki}/ca.pem;
	ssl_verify_client on;
	ssl_session_cache {cache};
	ssl_session_tickets {tickets};
"""


class Nginx(Arm):
    name = "nginx"
    title = "nginx stream mTLS sidecar pair"
    packages = ("nginx-light", "libnginx-mod-stream", "libssl3")
    wire_offset = wire_port(0)

    def up(self, suite, resume):
        values = {"pki": self.bed.pki, "suite": SUITES[suite], "reuse": "on" if resume else "off",
                  "tickets": "on" if resume else "off", "cache": "shared:sessions:10m" if resume else "off"}
        client = "".join(f"	server {{ listen 127.0.0.1:{port}; proxy_pass {ADDRESS['b']}:{wire_port(port)}; }}\n"
                         for port in PORTS.values())
        server = "".join(f"	server {{ listen {ADDRESS['b']}:{wire_port(port)} ssl; proxy_pass 127.0.0.1:{port}; }}\n"
                         for port in PORTS.values())
        for place, text in (("b", SERVER.format(**values) + server), ("a", CLIENT.format(**values) + client)):
            path = f"{self.bed.dir}/nginx-{place}.conf"
            with open(path, "w", encoding="ascii") as file:
                file.write(COMMON.format(side=place, dir=self.bed.dir) + text + "}\n")
            self.running.append(self.bed.spawn(place, "nginx", "-c", path, group="proxy"))
        for port in PORTS.values():
            wait_port("b", wire_port(port), self.running[0])
            wait_port("a", port, self.running[1])

    def address(self, port):
        return "127.0.0.1", port


ARM = Nginx
