# SPDX-License-Identifier: Apache-2.0
"""The real thing: SPIRE's server and agent, where they can be had."""
import os

from lib.tap import case, contains, equal

from support.bed import until
from support.spire import Spire


@case("SPIRE: an SVID, its rotation, the agent killed and started again", timeout=2400)
def svid(bed):
    spire = Spire(bed, "example.org", 18081)
    spire.entry("/web", f"unix:uid:{os.getuid()}", ttl=30)
    client = bed.client(path=spire.socket)
    until(lambda: client.changes(), "an SVID", 60)
    first = client.changes()[0]
    equal((first["id"], first["fits"], first["own"]), ("spiffe://example.org/web", True, "example.org"), "the SVID")
    until(lambda: client.changes()[-1]["serial"] != first["serial"], "its rotation", 60)
    spire.kill_agent()
    client.state("waiting")
    equal(client.ask("get")["identity"]["id"], "spiffe://example.org/web", "the SVID that stays")
    before = len(client.changes())
    spire.start_agent()
    until(lambda: len(client.changes()) > before and client.changes()[-1], "another SVID", 60)
    equal(None in client.changes(), False, "was there ever none")
    bed.finish()


@case("SPIRE: two trust domains that federate; two pods by the Delegated Identity API", timeout=2400)
def federation(bed):
    here, there = Spire(bed, "example.org", 18081), Spire(bed, "other.example", 18082)
    here.trust(there)
    there.trust(here)
    here.entry("/delegate", f"unix:uid:{os.getuid()}")
    here.entry("/ns/shop/sa/web", "k8s:ns:shop", "k8s:sa:web", more=("-federatesWith", "spiffe://other.example"))
    here.entry("/ns/shop/sa/db", "k8s:ns:shop", "k8s:sa:db")
    there.entry("/web", f"unix:uid:{os.getuid()}", more=("-federatesWith", "spiffe://example.org"))
    abroad = bed.client(path=there.socket)
    until(lambda: any(i and len(i["bundles"]) == 2 for i in abroad.changes()), "both bundles abroad", 60)
    client = bed.client(path=here.admin, kind="delegated")
    client.ask("add 1 k8s:ns:shop k8s:sa:web k8s:pod-uid:1")
    client.ask("add 2 k8s:ns:shop k8s:sa:db k8s:pod-uid:2")
    until(lambda: any(i and "other.example" in i["bundles"] for i in client.changes(1)), "pod 1", 60)
    until(lambda: any(client.changes(2)), "pod 2", 60)
    contains(client.changes(1)[-1]["id"], "/ns/shop/sa/web", "pod 1")
    equal(list(client.changes(2)[-1]["bundles"]), ["example.org"], "pod 2's bundles")
    bed.finish()
