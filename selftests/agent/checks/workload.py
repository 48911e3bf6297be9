# SPDX-License-Identifier: Apache-2.0
"""The Workload API as it should be, and agents that go and come back."""
import os
import time

import grpc
import workload_pb2
from lib.tap import Skip, case, check, contains, equal

from support import pki
from support.bed import ID, Workload, until


@case("the first answer: SVID, key, bundle; the metadata that the agent wants")
def first(bed):
    has = Workload()
    agent = bed.workload_agent(lambda stream: stream.put(has.answer))
    client = bed.client()
    got = client.serial(has.serial)
    equal((got["id"], got["fits"], got["chain"], got["own"]), (ID, True, 0, "example.org"), "the identity")
    equal(got["bundles"], {"example.org": 1}, "bundles")
    metadata = agent.streams["FetchX509SVID"][0].metadata
    equal(metadata.get("workload.spiffe.io"), "true", "the metadata")
    contains(metadata["user-agent"], "kmtls/", "user-agent")
    view = client.state("streaming")
    equal((view["tries"], view["failures"], view["answers"], view["bad_answers"], view["why"], view["retry_in"]),
          (1, 0, 1, 0, "", 0), "the view")
    bed.finish()


@case("rotation: what is pushed is there at once, 50 times, on one connection")
def rotation(bed):
    authority = pki.Authority("example.org")
    old = Workload(authority)
    agent = bed.workload_agent(lambda stream: stream.put(old.answer))
    client = bed.client()
    client.serial(old.serial)
    stream = agent.streams["FetchX509SVID"][0]
    slowest = 0
    for _ in range(50):
        new = Workload(authority)
        begin = time.monotonic()
        stream.put(new.answer)
        client.serial(new.serial)
        at = next(t for t, e in client.events if e["event"] == "changed" and e["identity"]["serial"] == new.serial)
        slowest = max(slowest, at - begin)
    check(slowest < 1, f"one took {slowest:.3f} s")
    equal(client.look()["tries"], 1, "connections")
    equal(len(client.changes()), 51, "changes")
    bed.finish()
    return f"slowest {slowest * 1000:.0f} ms"


@case("chain, federated bundles, revocation lists, several roots")
def everything(bed):
    root, other = pki.Authority("example.org"), pki.Authority("example.org")
    between = pki.Authority("example.org", issuer=root)
    has = Workload(between)
    has.first.certificates += between.der
    has.first.bundle = other.der + root.der
    abroad = pki.Authority("other.example")
    has.answer.federated["spiffe://other.example"] = abroad.der
    has.answer.federated["spiffe://third.example"] = pki.Authority("third.example").der * 2
    has.answer.crls.extend([root.crl(), abroad.crl()])
    bed.workload_agent(lambda stream: stream.put(has.answer))
    got = bed.client().serial(has.serial)
    equal((got["chain"], got["crls"], got["own"]), (1, 2, "example.org"), "the identity")
    equal(got["bundles"], {"example.org": 2, "other.example": 1, "third.example": 2}, "bundles")
    bed.finish()


@case("several SVIDs: the first, the one with the hint, the one with the ID; the first of equal hints")
def several(bed):
    authority = pki.Authority("example.org")
    all_of_them = [Workload(authority, f"spiffe://example.org/w/{i}", hint)
                   for i, hint in enumerate(["internal", "external", "external"])]
    answer = workload_pb2.SvidAnswer(svids=[w.svid for w in all_of_them])
    # What is not chosen does not matter.
    broken = workload_pb2.Svid(id="not an ID", certificates=b"x", key=b"y", bundle=b"z", hint="broken")
    answer.svids.append(broken)
    bed.workload_agent(lambda stream: stream.put(answer))
    bed.client().serial(all_of_them[0].serial)
    bed.client(hint="external").serial(all_of_them[1].serial)
    bed.client(id="spiffe://example.org/w/2").serial(all_of_them[2].serial)
    equal(bed.client(hint="external", id="spiffe://example.org/w/2").serial(all_of_them[2].serial)["hint"],
          "external", "the hint")
    bed.client(hint="nobody").refuses("none of the 4 SVIDs has the hint nobody")
    bed.client(id="spiffe://example.org/w/9").refuses("none of the 4 SVIDs has the SPIFFE ID spiffe://example.org/w/9")
    bed.finish()


@case("FetchX509Bundles: a bundle that changes alone; without that call all the same")
def bundles(bed):
    has = Workload()
    answer = workload_pb2.BundlesAnswer()
    answer.bundles["spiffe://example.org"] = has.authority.der
    answer.bundles["spiffe://other.example"] = pki.Authority("other.example").der
    agent = bed.workload_agent(lambda stream: stream.put(has.answer))
    client = bed.client()
    client.serial(has.serial)
    stream = until(lambda: agent.streams["FetchX509Bundles"], "the stream of bundles")[0]
    stream.put(answer)
    until(lambda: len(client.changes()) == 2, "the second change")
    equal(client.changes()[1]["bundles"], {"example.org": 1, "other.example": 1}, "bundles")
    # One without the own trust domain is not taken (Workload API section 5.2.2): the last one stays.
    del answer.bundles["spiffe://example.org"]
    stream.put(answer)
    until(lambda: client.look()["bad_answers"] == 1, "a bad answer")
    equal(client.ask("get")["identity"]["bundles"], {"example.org": 1, "other.example": 1}, "bundles")
    # What comes on the other stream is whole, so it redacts (section 4.4).
    new = Workload(has.authority)
    agent.streams["FetchX509SVID"][0].put(new.answer)
    equal(client.serial(new.serial)["bundles"], {"example.org": 1}, "bundles")
    bed.finish()


@case("an agent without FetchX509Bundles")
def no_bundles(bed):
    has = Workload()
    bed.agent("SpiffeWorkloadAPI", {"FetchX509SVID": (workload_pb2.Request, lambda s: s.put(has.answer))})
    client = bed.client()
    client.serial(has.serial)
    time.sleep(0.5)
    equal(client.look()["state"], "streaming", "the state")
    bed.finish()


@case("the agent is not there yet, goes, and comes back: the SVID stays, tries are spaced, no try is busy")
def away(bed):
    has = Workload()
    client = bed.client()
    view = client.state("waiting")
    contains(view["why"], "agent.sock: No such file or directory", "why")
    check(0 < view["retry_in"] <= 800, f"retry in {view['retry_in']} ms")
    agent = bed.workload_agent(lambda stream: stream.put(has.answer))
    client.serial(has.serial)
    check(client.look()["tries"] > 1, "tries")
    agent.stop()
    client.state("waiting")
    before = client.look()["tries"]
    used = client.ask("cpu")["ms"]
    time.sleep(4)
    tries = client.look()["tries"] - before
    used = client.ask("cpu")["ms"] - used
    # Pauses of 50 to 100, 100 to 200... then 400 to 800 ms.
    check(5 <= tries <= 13, f"{tries} tries in 4 s")
    check(used < 400, f"{used} ms of processor time in 4 s")
    equal(client.ask("get")["identity"]["serial"], has.serial, "the SVID that stays")
    equal(len(client.changes()), 1, "changes")
    new = Workload(has.authority)
    agent.methods["FetchX509SVID"] = (workload_pb2.Request, lambda stream: stream.put(new.answer))
    agent.start()
    client.serial(new.serial)
    equal(client.state("streaming")["why"], "", "why")
    # The pause began small again: at most 100 ms, then 200, ...
    before = client.look()["tries"]
    agent.stop()
    view = client.state("waiting")
    most = 100 << (view["tries"] - before)
    check(0 < view["retry_in"] <= most, f"retry in {view['retry_in']} ms, not {most} at most")
    agent.start()
    until(lambda: len(client.changes()) == 3, "a third change")
    bed.finish()
    return f"{tries} tries and {used} ms of processor in 4 s without an agent"


@case("the last good SVID goes when it expires")
def expires(bed):
    has = Workload(ttl=3)
    agent = bed.workload_agent(lambda stream: stream.put(has.answer))
    client = bed.client()
    got = client.serial(has.serial)
    agent.stop()
    until(lambda: client.changes()[-1] is None, "the end of it", 10)
    late = time.time() - got["not_after"]
    check(0 < late < 3, f"{late:.1f} s after notAfter")
    equal(client.ask("get")["identity"], None, "what there is")
    bed.finish()


@case("denied at first: refused, tried again, and taken when the agent has changed its mind")
def denied(bed):
    has = Workload()
    allowed = []

    def answer(stream):
        if allowed:
            stream.put(has.answer)
        else:
            stream.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued; 100 % sure\n")

    agent = bed.workload_agent(answer)
    client = bed.client()
    view = client.state("refused")
    equal((view["code"], view["why"]), ("PermissionDenied", "PermissionDenied: no identity issued; 100 % sure\n"),
          "the view")
    until(lambda: client.look()["failures"] >= 3, "three tries")
    allowed.append(True)
    client.serial(has.serial)
    # Denied in the middle of a stream: what was given is taken back (section 5.2.1).
    del allowed[:]
    agent.streams["FetchX509SVID"][-1].abort(grpc.StatusCode.PERMISSION_DENIED, "entry deleted")
    until(lambda: client.changes()[-1] is None, "the SVID's end")
    equal(client.ask("get")["identity"], None, "what there is")
    bed.finish()


@case("denied after the agent came back: the SVID stays until it expires")
def denied_later(bed):
    has = Workload()
    agent = bed.workload_agent(lambda stream: stream.put(has.answer))
    client = bed.client()
    client.serial(has.serial)
    agent.stop()
    agent.methods["FetchX509SVID"] = (workload_pb2.Request, lambda stream: stream.abort(
        grpc.StatusCode.PERMISSION_DENIED, "not synced"))
    agent.start()
    client.state("refused")
    equal(client.ask("get")["identity"]["serial"], has.serial, "what there is")
    bed.finish()


@case("Unimplemented: refused, and the next try much later; retry makes it now")
def unimplemented(bed):
    bed.agent("AnotherService", {})
    client = bed.client()
    view = client.state("refused")
    equal(view["code"], "Unimplemented", "the code")
    check(1000 < view["retry_in"] <= 1500, f"retry in {view['retry_in']} ms")
    before = view["tries"]
    client.tell("retry")
    until(lambda: client.look()["tries"] > before, "a try", 0.9)
    bed.finish()


@case("Unavailable: waiting")
def unavailable(bed):
    bed.workload_agent(lambda stream: stream.abort(grpc.StatusCode.UNAVAILABLE, "still starting"))
    client = bed.client()
    view = client.state("waiting")
    equal((view["code"], view["why"]), ("Unavailable", "Unavailable: still starting"), "the view")
    bed.finish()


@case("a stream that ends well is begun again")
def ended(bed):
    has = Workload()

    def answer(stream):
        stream.put(has.answer)
        stream.end()

    bed.workload_agent(answer)
    client = bed.client()
    until(lambda: len(client.changes()) >= 3, "three answers")
    contains(client.look()["why"] or "OK: the agent ended the stream", "the agent ended the stream", "why")
    bed.finish()


@case("keys are not left behind in memory, other than where OpenSSL keeps the key that is in use")
def wiped(bed):
    authority = pki.Authority("example.org")
    has = Workload(authority)
    agent = bed.workload_agent(lambda stream: stream.put(has.answer))
    client = bed.client()
    client.serial(has.serial)
    keys = [has.key]
    for _ in range(5):
        new = Workload(authority)
        keys.append(new.key)
        agent.streams["FetchX509SVID"][0].put(new.answer)
        client.serial(new.serial)
    # The number itself, 32 bytes: after OID, version and the octet strings' headers.
    for number, key in enumerate(keys):
        secret = key[36:68]
        equal(key[34:36], b"\x04\x20", "the key's form")
        equal(client.count(secret), 0, f"copies of key {number} of {len(keys)}")
    # And the scan finds what is there: the leaf, which nobody wipes.
    check(client.count(new.first.certificates[-60:]) > 0, "the scan is blind")
    bed.finish()


@case("in the worker's sandbox: connecting, rotation, an agent that comes back")
def sandboxed(bed):
    if os.geteuid():
        raise Skip("the sandbox takes root")
    has = Workload()
    agent = bed.workload_agent(lambda stream: stream.put(has.answer))
    # The leak sanitizer would trace us at the end, which the sandbox does not have.
    client = bed.client(sandbox=1, environment={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
    client.serial(has.serial)
    with open(f"/proc/{client.process.pid}/status") as status:
        contains(status.read(), "Seccomp:\t2", "the filter")
    agent.stop()
    client.state("waiting")
    new = Workload(has.authority)
    agent.methods["FetchX509SVID"] = (workload_pb2.Request, lambda stream: stream.put(new.answer))
    agent.start()
    client.serial(new.serial)
    bed.finish()


@case("wrong paths: each its own sentence")
def paths(bed):
    for path, sentence in (("agent.sock", "neither an absolute path nor unix:///PATH"),
                           ("unix://host/agent.sock", "neither an absolute path nor unix:///PATH"),
                           ("unix:///agent.sock?x=1", "nothing but a path may follow unix://")):
        client = bed.client(path=path)
        until(lambda c=client: c.process.poll() is not None, "its end")
        equal(client.process.returncode, 1, "exit status")
        until(lambda c=client, s=sentence: any(s in line for line in c.log), sentence)
    bed.clients.clear()
    bed.client(path="/" + "x" * 120).refuses("longer than the 107 bytes of a socket's path")
    has = Workload()
    bed.workload_agent(lambda stream: stream.put(has.answer))
    bed.client(path="unix://" + bed.path).serial(has.serial)
    bed.finish()
