# SPDX-License-Identifier: Apache-2.0
"""WireGuard over the link. Its cipher is ChaCha20-Poly1305, its handshake is once in two minutes for the whole link
and not one for each connection, and it knows nodes, not pods."""
import os

from . import Arm
from ..bed import ADDRESS, inside, run

INNER = {"a": "10.87.0.10", "b": "10.87.0.11"}
PORT = 51820


class Wireguard(Arm):
    name = "wireguard"
    title = "WireGuard between the nodes"
    packages = ("wireguard-tools",)
    tls = False

    def up(self, suite, resume):
        keys = {}
        for place in "ab":
            private = run("wg", "genkey").strip()
            path = f"{self.bed.dir}/wg-{place}"
            with open(path, "w", encoding="ascii") as file:
                file.write(private + "\n")
            keys[place] = path, run("sh", "-c", f"wg pubkey <{path}").strip()
        for place, other in ("ab", "ba"):
            run("ip", "-n", "kb-" + place, "link", "add", "wg0", "type", "wireguard")
            run("ip", "netns", "exec", "kb-" + place, "wg", "set", "wg0", "private-key", keys[place][0], "listen-port",
                str(PORT), "peer", keys[other][1], "allowed-ips", INNER[other] + "/32", "endpoint",
                f"{ADDRESS[other]}:{PORT}")
            run("ip", "-n", "kb-" + place, "addr", "add", INNER[place] + "/24", "dev", "wg0")
            run("ip", "-n", "kb-" + place, "link", "set", "wg0", "up")

    def address(self, port):
        return INNER["b"], port

    def down(self):
        for place in "ab":
            with inside(place):
                there = os.path.exists("/proc/sys/net/ipv4/conf/wg0")
            if there:  # not if up() has failed, which says why
                run("ip", "-n", "kb-" + place, "link", "del", "wg0")


ARM = Wireguard
