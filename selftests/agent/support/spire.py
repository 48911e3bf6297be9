# SPDX-License-Identifier: Apache-2.0
"""SPIRE's own server and agent: found in $PATH, or built once by `go install` from the Go module proxy."""
import os
import pathlib
import re
import shutil
import signal
import subprocess

from lib.tap import Failure, Skip

from .bed import until

VERSION = os.environ.get("KMTLS_SPIRE_VERSION", "v1.13.3")
NODE = "node"

SERVER = """
server {{
    bind_address = "127.0.0.1"
    bind_port = "{port}"
    socket_path = "{place}/server.sock"
    trust_domain = "{trust_domain}"
    data_dir = "{place}/server"
    log_level = "INFO"
    ca_ttl = "1h"
    default_x509_svid_ttl = "10m"
}}
plugins {{
    DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{place}/server.sqlite3" }} }}
    KeyManager "memory" {{ plugin_data {{}} }}
    NodeAttestor "join_token" {{ plugin_data {{}} }}
}}
"""

AGENT = """
agent {{
    data_dir = "{place}/agent"
    log_level = "INFO"
    server_address = "127.0.0.1"
    server_port = "{port}"
    socket_path = "{place}/public/agent.sock"
    admin_socket_path = "{place}/admin/admin.sock"
    trust_domain = "{trust_domain}"
    trust_bundle_path = "{place}/bundle.pem"
    authorized_delegates = ["spiffe://{trust_domain}/delegate"]
}}
plugins {{
    KeyManager "disk" {{ plugin_data {{ directory = "{place}/agent" }} }}
    NodeAttestor "join_token" {{ plugin_data {{}} }}
    WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"""


def programs(build):
    """Where spire-server and spire-agent are. Skip, with Go's own words, where they are not to be had."""
    if shutil.which("spire-server") and shutil.which("spire-agent"):
        return pathlib.Path(shutil.which("spire-server")).parent
    place = build / "spire" / VERSION
    place.mkdir(parents=True, exist_ok=True)
    go = shutil.which("go") or "/usr/local/go/bin/go"
    for name in ("spire-server", "spire-agent"):
        if (place / name).exists():
            continue
        try:
            got = subprocess.run(["nice", go, "install", f"github.com/spiffe/spire/cmd/{name}@{VERSION}"],
                                 env={**os.environ, "GOBIN": str(place)}, cwd="/", text=True, timeout=1500,
                                 capture_output=True, check=False)
        except (OSError, subprocess.TimeoutExpired) as trouble:
            raise Skip(f"SPIRE cannot be built: {trouble}") from trouble
        if got.returncode:
            words = " ".join(got.stderr.split())
            raise Skip(f"SPIRE cannot be built: {words[-300:]}")
    return place


class Spire:
    """A server and an agent of one trust domain, in a directory of their own below the bed's."""

    def __init__(self, bed, trust_domain, port):
        self.programs = programs(bed.build)
        self.trust_domain = trust_domain
        self.place = pathlib.Path(bed.directory) / trust_domain
        self.processes = {}
        for name in ("server", "agent", "public", "admin"):
            (self.place / name).mkdir(parents=True)
        fields = {"place": self.place, "port": port, "trust_domain": trust_domain}
        (self.place / "server.conf").write_text(SERVER.format(**fields))
        (self.place / "agent.conf").write_text(AGENT.format(**fields))
        bed.servers.append(self)
        self._start("server", "run", "-config", self.place / "server.conf")
        until(lambda: self._try("healthcheck") is not None, "a healthy server", 30)
        (self.place / "bundle.pem").write_text(self.server("bundle", "show"))
        said = self.server("token", "generate", "-spiffeID", f"spiffe://{trust_domain}/{NODE}")
        self.token = re.search(r"Token:\s*(\S+)", said).group(1)
        self.start_agent()

    @property
    def socket(self):
        return str(self.place / "public/agent.sock")

    @property
    def admin(self):
        return str(self.place / "admin/admin.sock")

    def _start(self, name, *arguments):
        log = open(self.place / f"{name}.log", "ab")  # pylint: disable=consider-using-with
        self.processes[name] = subprocess.Popen([str(self.programs / f"spire-{name}"), *map(str, arguments)],
                                                stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _try(self, *arguments):
        got = subprocess.run([str(self.programs / "spire-server"), *arguments, "-socketPath",
                              str(self.place / "server.sock")], text=True, capture_output=True, check=False)
        self.said = got.stdout + got.stderr
        return got.stdout if got.returncode == 0 else None

    def server(self, *arguments):
        out = self._try(*arguments)
        if out is None:
            raise Failure(f"spire-server {' '.join(arguments)}: {self.said}")
        return out

    def start_agent(self):
        self._start("agent", "run", "-config", self.place / "agent.conf", "-joinToken", self.token)
        until(lambda: os.path.exists(self.socket) and os.path.exists(self.admin), "the agent's sockets", 30)

    def kill_agent(self):
        self.processes["agent"].send_signal(signal.SIGKILL)
        self.processes["agent"].wait()
        for path in (self.socket, self.admin):
            os.unlink(path)

    def entry(self, path, *selectors, ttl=600, more=()):
        arguments = [word for selector in selectors for word in ("-selector", selector)]
        self.server("entry", "create", "-parentID", f"spiffe://{self.trust_domain}/{NODE}", "-spiffeID",
                    f"spiffe://{self.trust_domain}{path}", "-x509SVIDTTL", str(ttl), *arguments, *more)

    def trust(self, other):
        """Takes the other's bundle, as federation would."""
        bundle = self.place / f"{other.trust_domain}.bundle"
        bundle.write_text(other.server("bundle", "show", "-format", "spiffe"))
        self.server("bundle", "set", "-format", "spiffe", "-id", f"spiffe://{other.trust_domain}", "-path", str(bundle))

    def stop(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
