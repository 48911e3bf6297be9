# SPDX-License-Identifier: Apache-2.0
"""The Delegated Identity API: many pods over one connection, each with its own stream."""
import time

import delegated_pb2
import grpc
from lib.tap import case, contains, equal

from support import pki
from support.bed import until

SERVICE = "spire.api.agent.delegatedidentity.v1.DelegatedIdentity"
AUTHORITY = pki.Authority("example.org")


def answer(path, federates_with=(), authority=AUTHORITY, hint="", **issue):
    leaf, key, serial = authority.issue("spiffe://example.org" + path, **issue)
    svid = delegated_pb2.Svid(certificates=[leaf], id=delegated_pb2.Id(trust_domain="example.org", path=path),
                              hint=hint, expires_at=int(time.time()) + 3600)
    return delegated_pb2.SvidAnswer(svids=[delegated_pb2.SvidWithKey(svid=svid, key=key)],
                                    federates_with=federates_with), serial


def bundles(**more):
    out = delegated_pb2.BundlesAnswer()
    out.bundles["spiffe://example.org"] = AUTHORITY.der
    for name, authority in more.items():
        out.bundles["spiffe://" + name.replace("_", ".")] = authority.der
    return out


def selectors(stream):
    return sorted(f"{s.type}:{s.value}" for s in stream.request.selectors)


class Delegate:
    """An agent that knows entries: sorted selectors -> answer, or None for an empty one."""

    def __init__(self, bed, first_bundles=None):
        self.entries, self.pids, self.streams = {}, {}, {}
        self.bundles = [first_bundles or bundles()]

        self.denies = False

        def by_selectors(stream):
            if self.denies:
                stream.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
                return
            self.streams[tuple(selectors(stream))] = stream
            stream.put(self.entries.get(tuple(selectors(stream)), delegated_pb2.SvidAnswer()))

        def by_pid(stream):
            stream.put(self.pids.get(stream.request.pid, delegated_pb2.SvidAnswer()))

        self.agent = bed.agent(SERVICE, {
            "SubscribeToX509SVIDs": (delegated_pb2.SelectorsRequest, by_selectors),
            "SubscribeToX509SVIDsByPID": (delegated_pb2.PidRequest, by_pid),
            "SubscribeToX509Bundles": (delegated_pb2.BundlesRequest,
                                       lambda stream: stream.put(self.bundles[0]))})


@case("pods by selectors and by process; each its own SVID, with the bundles it federates with")
def pods(bed):
    has = Delegate(bed, bundles(other_example=pki.Authority("other.example"),
                                third_example=pki.Authority("third.example")))
    one, first = answer("/ns/shop/sa/web", ["spiffe://other.example", "spiffe://unknown.example"])
    two, second = answer("/ns/shop/sa/db", ["third.example"])
    three, third = answer("/by/pid")
    has.entries[("k8s:ns:shop", "k8s:sa:web")] = one
    has.entries[("k8s:pod-uid:0-1-2", "unix:uid:1000")] = two
    has.pids[4711] = three
    client = bed.client(kind="delegated")
    for command in ("add 1 k8s:ns:shop k8s:sa:web", "add 2 unix:uid:1000 k8s:pod-uid:0-1-2", "add 3 pid=4711"):
        equal(client.ask(command)["err"], 0, command)
    got = client.serial(first, key=1)
    equal((got["id"], got["bundles"], got["own"]),
          ("spiffe://example.org/ns/shop/sa/web", {"example.org": 1, "other.example": 1}, "example.org"), "pod 1")
    equal(client.serial(second, key=2)["bundles"], {"example.org": 1, "third.example": 1}, "pod 2")
    equal(client.serial(third, key=3)["bundles"], {"example.org": 1}, "pod 3")
    equal(client.look()["tries"], 1, "connections")
    equal(client.look(1)["state"], "streaming", "pod 1")
    # Rotation of one.
    new, serial = answer("/ns/shop/sa/web")
    has.streams[("k8s:ns:shop", "k8s:sa:web")].put(new)
    equal(client.serial(serial, key=1)["bundles"], {"example.org": 1}, "pod 1")
    equal(len(client.changes(2)), 1, "changes of pod 2")
    bed.finish()


@case("bundles that change reach every pod that may use them")
def rotation(bed):
    has = Delegate(bed)
    has.entries[("k8s:ns:a",)], first = answer("/a", ["spiffe://other.example"])
    has.entries[("k8s:ns:b",)], second = answer("/b")
    client = bed.client(kind="delegated")
    client.ask("add 1 k8s:ns:a")
    client.ask("add 2 k8s:ns:b")
    equal(client.serial(first, key=1)["bundles"], {"example.org": 1}, "bundles")
    client.serial(second, key=2)
    stream = has.agent.streams["SubscribeToX509Bundles"][0]
    stream.put(bundles(other_example=pki.Authority("other.example")))
    until(lambda: client.changes(1)[-1]["bundles"] == {"example.org": 1, "other.example": 1}, "pod 1's bundles")
    equal(client.ask("get 2")["identity"]["bundles"], {"example.org": 1}, "pod 2's bundles")
    # A new root comes first with its bundle, then with SVIDs of it; the other order works out, too.
    root = pki.Authority("example.org")
    new, serial = answer("/a", authority=root)
    has.streams[("k8s:ns:a",)].put(new)
    contains(client.state("waiting", key=1)["why"], "not of its trust domain's bundle", "why")
    equal(client.ask("get 1")["identity"]["serial"], first, "the SVID that stays")
    both = bundles()
    both.bundles["spiffe://example.org"] += root.der
    stream.put(both)
    client.serial(serial, key=1)
    equal(client.look(1)["state"], "streaming", "the state")
    bed.finish()


@case("no entry: refused, until there is one; an entry that goes takes the SVID back")
def entries(bed):
    has = Delegate(bed)
    client = bed.client(kind="delegated")
    client.ask("add 7 k8s:ns:late")
    view = client.state("refused", key=7)
    equal(view["why"], "the agent has no SVID for it", "why")
    new, serial = answer("/late")
    has.streams[("k8s:ns:late",)].put(new)
    client.serial(serial, key=7)
    equal(client.look(7)["tries"], 1, "calls")
    has.streams[("k8s:ns:late",)].put(delegated_pb2.SvidAnswer())
    until(lambda: client.changes(7)[-1] is None, "its end")
    equal(client.ask("get 7")["identity"], None, "what there is")
    bed.finish()


@case("one pod's trouble is its own: bad answers, denied, its stream's end")
def alone(bed):
    has = Delegate(bed)
    has.entries[("k8s:ns:good",)], good = answer("/good")
    has.entries[("k8s:ns:bad",)], _ = answer("/bad", ttl=-5, begins=-60)
    client = bed.client(kind="delegated")
    client.ask("add 1 k8s:ns:good")
    client.ask("add 2 k8s:ns:bad")
    client.serial(good, key=1)
    view = client.state("waiting", key=2)
    equal(view["why"], "the SVID has expired", "why")
    until(lambda: client.look(2)["tries"] >= 3, "more tries")
    has.entries[("k8s:ns:bad",)], now_good = answer("/bad")
    client.serial(now_good, key=2)
    has.entries[("k8s:ns:bad",)] = delegated_pb2.SvidAnswer()
    has.streams[("k8s:ns:bad",)].abort(grpc.StatusCode.PERMISSION_DENIED, "gone")
    until(lambda: client.changes(2)[-1] is None, "its end")
    until(lambda: client.look(2)["why"] == "the agent has no SVID for it", "the next call's answer")
    equal(client.look(2)["state"], "refused", "the state")
    equal(len(client.changes(1)), 1, "changes of pod 1")
    equal(client.look()["tries"], 1, "connections")
    bed.finish()


@case("a delegate that is not authorized: refused, tried again, and then all pods are there")
def unauthorized(bed):
    has = Delegate(bed)
    has.entries[("k8s:ns:a",)], serial = answer("/a")
    begin = has.agent.methods["SubscribeToX509Bundles"]
    has.agent.methods["SubscribeToX509Bundles"] = (begin[0], lambda stream: stream.abort(
        grpc.StatusCode.PERMISSION_DENIED, "caller not configured as an authorized delegate"))
    has.agent.stop()
    has.agent.start()
    client = bed.client(kind="delegated")
    client.ask("add 1 k8s:ns:a")
    equal(client.state("refused")["why"], "PermissionDenied: caller not configured as an authorized delegate", "why")
    equal(client.ask("get 1")["identity"], None, "what there is")
    has.agent.stop()
    has.agent.methods["SubscribeToX509Bundles"] = begin
    has.agent.start()
    client.serial(serial, key=1)
    # Denied later, as when the delegate's own entry is replaced: that says nothing of the pod.
    has.denies = True
    has.streams[("k8s:ns:a",)].abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
    until(lambda: client.look(1)["failures"] >= 3, "more tries")
    equal(client.look(1)["state"], "refused", "the state")
    equal(client.ask("get 1")["identity"]["serial"], serial, "the SVID that stays")
    has.denies = False
    has.entries[("k8s:ns:a",)], new = answer("/a")
    client.serial(new, key=1)
    equal(None in client.changes(1), False, "was there ever none")
    bed.finish()


@case("pods come and go, 60 of them; the agent too: SVIDs stay, all streams are begun again")
def many(bed):
    has = Delegate(bed)
    serials = {}
    for i in range(60):
        has.entries[(f"k8s:ns:n{i}",)], serials[i] = answer(f"/n/{i}")
    client = bed.client(kind="delegated")
    for i in range(60):
        client.ask(f"add {i} k8s:ns:n{i}")
    for i in range(60):
        client.serial(serials[i], key=i)
    for i in range(0, 60, 2):
        equal(client.ask(f"remove {i}")["err"], 0, "remove")
        equal(client.ask(f"get {i}")["identity"], None, "what there is")
    equal(client.ask("remove 0")["err"], -2, "remove twice")
    has.agent.stop()
    client.state("waiting")
    for i in range(1, 60, 2):
        equal(client.ask(f"get {i}")["identity"]["serial"], serials[i], "the SVID that stays")
        has.entries[(f"k8s:ns:n{i}",)], serials[i] = answer(f"/n/{i}")
    has.agent.start()
    for i in range(1, 60, 2):
        client.serial(serials[i], key=i)
    equal(sum(len(client.changes(i)) for i in range(0, 60, 2)), 30, "changes of those removed")
    equal(client.ask("add 0 k8s:ns:n0")["err"], 0, "added again")
    until(lambda: len(client.changes(0)) == 2, "its SVID")
    bed.finish()


@case("an expired SVID of a pod goes, and no other")
def expires(bed):
    has = Delegate(bed)
    has.entries[("k8s:ns:short",)], short = answer("/short", ttl=2)
    has.entries[("k8s:ns:long",)], long = answer("/long")
    client = bed.client(kind="delegated")
    client.ask("add 1 k8s:ns:short")
    client.ask("add 2 k8s:ns:long")
    client.serial(short, key=1)
    client.serial(long, key=2)
    has.agent.stop()
    until(lambda: client.changes(1)[-1] is None, "its end", 8)
    equal(client.ask("get 2")["identity"]["serial"], long, "the other's")
    bed.finish()


@case("which pod: selectors that are none, too many, both ways, twice")
def wrong(bed):
    client = bed.client(kind="delegated")
    for command, err, why in (
            ("add 1 k8s", -22, "selector k8s: not TYPE:VALUE"), ("add 1 :x", -22, "selector :x: not TYPE:VALUE"),
            ("add 1 k8s:", -22, "selector k8s:: not TYPE:VALUE"),
            ("add 1 a:" + "b" * 1100, -22, "longer than 1024 bytes"),
            ("add 1 " + "a:b " * 33, -22, "more than 32 selectors"),
            ("add 1 pid=-1", -22, "a process number below 0"),
            ("add 1 pid=0", -22, "neither selectors nor a process number"),
            ("add 1 a:b", 0, ""), ("add 1 a:b", -17, "the pod is there already")):
        got = client.ask(command)
        equal(got["err"], err, command[:40])
        contains(got["why"], why, command[:40])
    bed.finish()


@case("bundles that are of no use: not taken, the connection is begun again")
def bad_bundles(bed):
    has = Delegate(bed)
    has.entries[("k8s:ns:a",)], serial = answer("/a")
    client = bed.client(kind="delegated")
    client.ask("add 1 k8s:ns:a")
    client.serial(serial, key=1)
    broken = delegated_pb2.BundlesAnswer()
    broken.bundles["spiffe://example.org"] = b"garbage"
    has.agent.streams["SubscribeToX509Bundles"][0].put(broken)
    until(lambda: any("the answer has no bundle that is of use: bundle of example.org: not a certificate in DER" in line
                      for line in client.log), "a line that says so")
    equal(client.ask("get 1")["identity"]["serial"], serial, "the SVID that stays")
    until(lambda: client.look()["tries"] == 2 and client.look()["state"] == "streaming", "another connection")
    bed.finish()
