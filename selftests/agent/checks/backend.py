# SPDX-License-Identifier: Apache-2.0
"""The daemon's types of identity backend behind an agent: workload-api and delegated-identity, out of a configuration file."""
import errno
import pathlib
import time

import delegated_pb2
import grpc
import workload_pb2
from lib.tap import case, check, contains, equal

from support import pki
from support.bed import Workload, until

from .delegated import Delegate, answer

WEB, DB = "spiffe://example.org/ns/shop/sa/web", "spiffe://example.org/ns/shop/sa/db"


def backend(bed, kind, *lines, enabled="spire", others=""):
    """A client of a configuration with one backend of this type."""
    path = bed.directory + "/kmtlsd.yaml"
    with open(path, "w", encoding="ascii") as file:
        file.write("identity:\n  trust_domain: example.org\n  enabled: " + enabled + "\n  backends:\n" + others +
                   f"    - name: spire\n      type: {kind}\n      socket: unix://{bed.path}\n" +
                   "".join(f"      {line}\n" for line in lines))
    return bed.client(kind="backend", path=path)


def ask_issue(client, spiffe_id, pod):
    """Once more where the machine is so slow that the agent's first answer takes longer than it is waited for."""

    def probe():
        got = client.ask(f"issue {spiffe_id} {pod}")
        return None if got["why"] == "the agent has not answered yet" else got

    return until(probe, "an answer of the agent")


def issued(client, spiffe_id, pod="shop/web"):
    got = ask_issue(client, spiffe_id, pod)
    equal((got["err"], got["why"], got.get("id")), (0, "", spiffe_id), "issue")
    return got


def refused(client, spiffe_id, number, why, pod="shop/web"):
    got = ask_issue(client, spiffe_id, pod)
    equal(got["err"], -number, f"errno: {got}")
    contains(got["why"], why, "why")
    return got


def version(client, spiffe_id, pod="shop/web"):
    return client.ask(f"version {spiffe_id} {pod}")["version"]


def newer(client, before, spiffe_id, pod="shop/web"):
    until(lambda: version(client, spiffe_id, pod) > before, f"something new for {pod}; {client.log[-5:]}")


def backend_state(client, state, why, *subject):
    def probe():
        got = client.ask(" ".join(("state", *subject)))
        return got if got["state"] == state and why in got["why"] else None

    return until(probe, f"{state}: {why}; {client.ask(' '.join(('state', *subject)))}")


@case("workload-api: each pod its own SVID out of one answer, at once, with federated bundles; rotation of one is news for one")
def several(bed):
    web, db = Workload(spiffe_id=WEB), None
    db = Workload(web.authority, DB)
    both = workload_pb2.SvidAnswer(svids=[web.svid, db.svid])
    both.federated["spiffe://other.example"] = pki.Authority("other.example").der * 2
    agent = bed.workload_agent(lambda stream: stream.put(both))
    client = backend(bed, "workload-api")
    got = issued(client, WEB)
    equal((got["serial"], got["trust"], got["source"]), (web.serial, {"example.org": 1, "other.example": 2}, "spire"), "web")
    equal(issued(client, DB, "shop/db")["serial"], db.serial, "db")
    versions = version(client, WEB), version(client, DB)
    check(versions[0] and versions[1], f"versions {versions}")
    new = Workload(web.authority, WEB)
    agent.streams["FetchX509SVID"][0].put(workload_pb2.SvidAnswer(svids=[db.svid, new.svid], federated=both.federated))
    newer(client, versions[0], WEB)
    equal(issued(client, WEB)["serial"], new.serial, "web's new one")
    equal(version(client, DB), versions[1], "db's version")
    # Without the bundle of the others nobody of those is believed any more.
    agent.streams["FetchX509SVID"][0].put(workload_pb2.SvidAnswer(svids=[db.svid, new.svid]))
    newer(client, versions[1], DB)
    equal(issued(client, DB, "shop/db")["trust"], {"example.org": 1}, "whom db believes")
    equal(client.ask("kept " + DB)["trust"], {"example.org": 1}, "what the next worker has")
    equal(client.ask("state"), {"event": "state", "state": "ok", "why": "", "not_taken": 0}, "the state")
    view = client.ask("look")
    equal((view["state"], view["answers"]), ("streaming", 3), "the connection")
    check(abs(view["updated"] - time.time()) < 5, "the last update")
    bed.finish()


@case("workload-api: another SPIFFE ID, another trust domain: refused by name, counted; taken up when it comes")
def of_another(bed):
    has = Workload(spiffe_id=WEB)
    agent = bed.workload_agent(lambda stream: stream.put(has.answer))
    client = backend(bed, "workload-api")
    got = refused(client, DB, errno.ENOENT,
                  f"the agent has no SVID of {DB}; the first that it has is of {WEB}", "shop/db")
    equal(got["not_taken"], 1, "not taken")
    backend_state(client, "refused", f"the agent has no SVID of {DB}", DB, "shop/db")
    backend_state(client, "ok", "", WEB, "shop/web")
    refused(client, "spiffe://other.example/x", errno.EINVAL,
            "spiffe://other.example/x: is not of the trust domain example.org")
    abroad = Workload(pki.Authority("other.example"), "spiffe://other.example/ns/shop/sa/db")
    before = version(client, DB)
    agent.streams["FetchX509SVID"][0].put(abroad.answer)
    newer(client, before, DB)
    refused(client, DB, errno.ENOENT, "the first that it has is of spiffe://other.example/ns/shop/sa/db")
    before = version(client, DB)
    comes = Workload(has.authority, DB)
    agent.streams["FetchX509SVID"][0].put(comes.answer)
    newer(client, before, DB)
    equal(issued(client, DB, "shop/db")["serial"], comes.serial, "the one that came")
    bed.finish()


@case("workload-api: what an answer does not have any more, and what is denied on the stream, is taken back; a no at first is not")
def taken_back(bed):
    web = Workload(spiffe_id=WEB)
    db = Workload(web.authority, DB)
    denied = []

    def talk(stream):
        if denied:
            stream.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
        else:
            stream.put(workload_pb2.SvidAnswer(svids=[web.svid, db.svid]))

    agent = bed.workload_agent(talk)
    client = backend(bed, "workload-api")
    for spiffe_id in (WEB, DB):
        issued(client, spiffe_id)
    before = version(client, DB)
    agent.streams["FetchX509SVID"][0].put(web.answer)
    newer(client, before, DB)
    refused(client, DB, errno.EKEYREVOKED, f"the agent has no SVID of {DB}")
    refused(client, DB, errno.ENOENT, f"the agent has no SVID of {DB}")
    before = version(client, WEB)
    denied.append(True)
    agent.streams["FetchX509SVID"][0].abort(grpc.StatusCode.PERMISSION_DENIED, "entry deleted")
    newer(client, before, WEB)
    refused(client, WEB, errno.EKEYREVOKED, "PermissionDenied: ")
    client.ask("worker")
    backend_state(client, "refused", "PermissionDenied: no identity issued")
    refused(client, WEB, errno.ENOENT, "PermissionDenied: no identity issued")
    equal(version(client, WEB), 0, "the version, where nothing was given")
    bed.finish()


@case("workload-api: a hint; one that breaks a rule does not cost the others theirs; the one before stays")
def broken(bed):
    web = Workload(spiffe_id=WEB, hint="mesh")
    db = Workload(web.authority, DB, "mesh")
    other = Workload(web.authority, WEB, "other")
    agent = bed.workload_agent(lambda stream: stream.put(workload_pb2.SvidAnswer(svids=[other.svid, web.svid, db.svid])))
    client = backend(bed, "workload-api", "hint: mesh")
    equal(issued(client, WEB)["serial"], web.serial, "the one with the hint")
    issued(client, DB, "shop/db")
    before = version(client, DB)
    new = Workload(web.authority, DB, "mesh")
    bad = Workload(web.authority, WEB, "mesh")
    bad.svid.key = db.svid.key
    agent.streams["FetchX509SVID"][0].put(workload_pb2.SvidAnswer(svids=[bad.svid, new.svid]))
    newer(client, before, DB)
    equal(issued(client, DB, "shop/db")["serial"], new.serial, "db")
    equal(issued(client, WEB)["serial"], web.serial, "web's last good one")
    equal(client.ask("state")["not_taken"], 1, "not taken")
    check(any("answer not taken" in line and "does not fit the certificate" in line and WEB in line for line in client.log),
          "the line in the log")
    bed.finish()


@case("workload-api: the agent is away, then another worker: what was given is there; it comes back and gives what is new")
def away(bed):
    has = Workload(spiffe_id=WEB)
    agent = bed.workload_agent(lambda stream: stream.put(has.answer))
    client = backend(bed, "workload-api")
    issued(client, WEB)
    before = version(client, WEB)
    agent.stop()
    backend_state(client, "waiting", "agent.sock: ")
    equal(issued(client, WEB)["serial"], has.serial, "the last good one")
    client.ask("worker")
    began = time.monotonic()
    refused(client, WEB, errno.ENOENT, "agent.sock: ")
    check(time.monotonic() - began < 1.5, "nobody waits for an agent that is not there")
    equal(client.ask("kept " + WEB)["serial"], has.serial, "what the worker was left")
    new = Workload(has.authority, WEB)
    agent.methods["FetchX509SVID"] = (workload_pb2.Request, lambda stream: stream.put(new.answer))
    agent.start()
    newer(client, 0, WEB)
    equal(issued(client, WEB)["serial"], new.serial, "the new one")
    # The same once more is no news.
    before = version(client, WEB)
    agent.stop()
    backend_state(client, "waiting", "agent.sock: ")
    agent.start()
    until(lambda: client.ask("look")["answers"] >= 2, "the same answer again", 10)
    equal(version(client, WEB), before, "the version")
    bed.finish()


@case("workload-api, trusted and not enabled: its roots are believed, also by another worker while the agent is away")
def trusted(bed):
    has = Workload(spiffe_id=WEB)
    agent = bed.workload_agent(lambda stream: stream.put(has.answer))
    client = backend(bed, "workload-api", enabled="own", others="    - {name: own, type: builtin, key_manager: memory}\n")
    newer(client, 0, WEB)
    equal(issued(client, WEB)["trust"], {"example.org": 2}, "whom it believes")
    # Another root, by the SVID of one pod, is news for every pod.
    before = version(client, DB, "shop/db")
    agent.streams["FetchX509SVID"][0].put(workload_pb2.SvidAnswer(svids=[workload_pb2.Svid(
        id=WEB, certificates=has.svid.certificates, key=has.svid.key,
        bundle=has.svid.bundle + pki.Authority("example.org").der)]))
    newer(client, before, DB, "shop/db")
    equal(issued(client, DB, "shop/db")["trust"], {"example.org": 3}, "whom db believes")
    client.ask("tick")
    agent.stop()
    client.ask("worker")
    got = issued(client, WEB)
    equal((got["trust"], got["source"]), ({"example.org": 3}, "own"), "whom it believes while the agent is away")
    bed.finish()


@case("workload-api: an agent that hangs is waited for once")
def hangs(bed):
    bed.workload_agent(lambda stream: None)
    client = backend(bed, "workload-api")
    began = time.monotonic()
    for _ in range(4):
        got = client.ask(f"issue {WEB} shop/web")
        equal((got["err"], got["why"]), (-errno.ENOENT, "the agent has not answered yet"), "what is said meanwhile")
    took = time.monotonic() - began
    check(1 < took < 4, f"{took:.1f} s")
    bed.finish()


@case("delegated-identity: two pods by the usual selectors, each what it federates with; one that comes later, one taken back")
def delegated(bed):
    first = delegated_pb2.BundlesAnswer()
    has = Delegate(bed)
    first.CopyFrom(has.bundles[0])
    first.bundles["spiffe://other.example"] = pki.Authority("other.example").der
    has.bundles[0] = first
    web_selectors = ("k8s:ns:shop", "k8s:pod-name:web-1", "k8s:sa:web")
    db_selectors = ("k8s:ns:shop", "k8s:pod-name:db-1", "k8s:sa:db")
    has.entries[web_selectors], serial = answer("/ns/shop/sa/web", ["spiffe://other.example"])
    client = backend(bed, "delegated-identity")
    got = issued(client, WEB, "shop/web-1")
    equal((got["serial"], got["trust"], got["source"]), (serial, {"example.org": 1, "other.example": 1}, "spire"), "web")
    refused(client, DB, errno.ENOENT, "the agent has no SVID for it", "shop/db-1")
    backend_state(client, "refused", "pod shop/db-1: the agent has no SVID for it")
    backend_state(client, "ok", "", WEB, "shop/web-1")
    equal(version(client, DB, "shop/db-1"), 0, "db's version")
    new, db_serial = answer("/ns/shop/sa/db")
    has.streams[db_selectors].put(new)
    newer(client, 0, DB, "shop/db-1")
    got = issued(client, DB, "shop/db-1")
    equal((got["serial"], got["trust"]), (db_serial, {"example.org": 1}), "db")
    # Rotation of one.
    before = version(client, DB, "shop/db-1"), version(client, WEB, "shop/web-1")
    new, db_serial = answer("/ns/shop/sa/db")
    has.streams[db_selectors].put(new)
    newer(client, before[0], DB, "shop/db-1")
    equal(issued(client, DB, "shop/db-1")["serial"], db_serial, "db's new one")
    equal(version(client, WEB, "shop/web-1"), before[1], "web's version")
    before = version(client, DB, "shop/db-1")
    has.streams[db_selectors].put(delegated_pb2.SvidAnswer())
    newer(client, before, DB, "shop/db-1")
    refused(client, DB, errno.EKEYREVOKED, "the agent has no SVID for it", "shop/db-1")
    refused(client, DB, errno.ENOENT, "the agent has no SVID for it", "shop/db-1")
    equal(issued(client, WEB, "shop/web-1")["serial"], serial, "web's, as it was")
    equal(client.ask("state")["not_taken"], 0, "not taken")
    bed.finish()


@case("delegated-identity: selectors of the configuration; an entry with another SPIFFE ID is refused by name and counted")
def selected(bed):
    has = Delegate(bed)
    has.entries[("k8s:sa:web", "x:shop/web")], serial = answer("/ns/shop/sa/web")
    has.entries[("x:shop/other",)], _ = answer("/ns/shop/sa/web")
    client = backend(bed, "delegated-identity", "selectors: ['x:{pod}', 'k8s:sa:{service_account}']")
    equal(issued(client, WEB)["serial"], serial, "by two selectors")
    got = refused(client, "spiffe://example.org/plain", errno.ENOENT,
                  f"none of the 1 SVIDs has the SPIFFE ID spiffe://example.org/plain; the first is of {WEB}", "shop/other")
    check(got["not_taken"] >= 1, "not counted")
    check(any("no SVID of a pod" in line and "pod=shop/other" in line for line in client.log), "no line in the log")
    bed.finish()
    client = backend(bed, "delegated-identity", "selectors: ['k8s:ns:{namespace}']")
    refused(client, WEB, errno.EINVAL, "pod web: there is no selector for it", "web")
    bed.finish()


@case("delegated-identity: the agent goes, another worker, the agent comes back: what was given is there, the same is no news")
def delegated_away(bed):
    has = Delegate(bed)
    has.entries[("x:web",)], serial = answer("/ns/shop/sa/web")
    client = backend(bed, "delegated-identity", "selectors: ['x:{name}']")
    issued(client, WEB)
    before = version(client, WEB)
    has.agent.stop()
    backend_state(client, "waiting", "agent.sock: ")
    equal(issued(client, WEB)["serial"], serial, "the last good one")
    has.agent.start()
    until(lambda: client.ask(f"state {WEB} shop/web")["state"] == "ok", "the agent is back", 10)
    time.sleep(0.3)
    equal(version(client, WEB), before, "the version")
    has.agent.stop()
    client.ask("worker")
    refused(client, WEB, errno.ENOENT, "agent.sock: ")
    equal(client.ask("kept " + WEB)["serial"], serial, "what the worker was left")
    has.agent.start()
    newer(client, 0, WEB)
    equal(issued(client, WEB)["serial"], serial, "the same SVID by the other worker")
    bed.finish()


@case("examples/kmtlsd-spire.yaml: its pod, its entries")
def example(bed):
    has = Delegate(bed)
    has.entries[("k8s:ns:shop", "k8s:pod-name:web-1", "k8s:sa:web")], serial = answer("/ns/shop/sa/web")
    with open(pathlib.Path(__file__).parents[3] / "examples/kmtlsd-spire.yaml", encoding="ascii") as file:
        text = file.read()
    contains(text, "unix:///run/spire/agent/admin/admin.sock", "the example")
    path = bed.directory + "/kmtlsd.yaml"
    with open(path, "w", encoding="ascii") as file:
        file.write(text.replace("/run/spire/agent/admin/admin.sock", bed.path))
    equal(issued(bed.client(kind="backend", path=path), WEB, "shop/web-1")["serial"], serial, "the SVID")
    bed.finish()
