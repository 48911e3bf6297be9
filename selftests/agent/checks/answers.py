# SPDX-License-Identifier: Apache-2.0
"""Answers that break a rule: each has its own sentence, the SVID from before stays, and a good answer
ends it."""
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives import serialization
from lib.tap import case, check, contains, equal

from support import pki
from support.bed import ID, Workload, until

DER = serialization.Encoding.DER
AUTHORITY = pki.Authority("example.org")


def fresh(**issue):
    return Workload(AUTHORITY, **issue)


def change(**fields):
    """A function that makes a fresh answer and sets fields of its SVID."""

    def make():
        has = fresh()
        for name, value in fields.items():
            setattr(has.first, name, value(has) if callable(value) else value)
        return has.answer

    return make


def no_svid():
    return type(fresh().answer)()


def too_many():
    has = fresh()
    has.answer.svids.extend([has.svid] * 256)
    return has.answer


def expired():
    return fresh(ttl=-5, begins=-100).answer


def not_yet():
    return fresh(ttl=1000, begins=500).answer


def with_key(key):
    return lambda: Workload(AUTHORITY, key=key).answer


def of_id(spiffe_id):
    return lambda: Workload(AUTHORITY, spiffe_id=spiffe_id).answer


def foreign_issuer():
    has = Workload(pki.Authority("example.org"))
    has.first.bundle = AUTHORITY.der
    return has.answer


def leaf_in_bundle():
    has = fresh()
    has.first.bundle += fresh().first.certificates
    return has.answer


def foreign_root():
    has = fresh()
    has.first.bundle += pki.Authority("other.example").der
    return has.answer


def crl(der):
    def make():
        has = fresh()
        has.answer.crls.append(der)
        return has.answer

    return make


def too_many_bundles():
    has = fresh()
    der = pki.Authority("other.example").der
    for i in range(1100):
        has.answer.federated[f"spiffe://td{i}.example"] = der
    return has.answer


def own_twice():
    has = fresh()
    has.answer.federated["spiffe://example.org"] = AUTHORITY.der
    return has.answer


def sealed(has):
    key = serialization.load_der_private_key(has.key, None)
    return key.private_bytes(DER, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x"))


def sec1(has):
    key = serialization.load_der_private_key(has.key, None)
    return key.private_bytes(DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())


def long_chain(has):
    chain, issuer = b"", AUTHORITY
    for _ in range(9):
        issuer = pki.Authority("example.org", issuer=issuer)
        chain = issuer.der + chain
    return has.first.certificates + chain


BAD = [
    ("not protobuf", lambda: b"\xff\xff\xff", "the answer is not the protobuf message it should be"),
    ("a field cut short", lambda: fresh().answer.SerializeToString()[:-1], "not the protobuf message it should be"),
    ("a message that becomes too large in memory", lambda: b"\x0a\x00" * 300000,
     "the answer is not the protobuf message it should be"),
    ("an empty message", no_svid, "the answer has no SVID"),
    ("257 SVIDs", too_many, "more than 256 SVIDs in one answer"),
    ("no ID", change(id=""), "the SVID's SPIFFE ID is none"),
    ("an ID of another scheme", change(id="https://example.org/web"), "the SVID's SPIFFE ID is none"),
    ("a trust domain as ID", change(id="spiffe://example.org"), "the SVID's SPIFFE ID has no path"),
    ("another ID than the certificate's", change(id=ID + "2"), "the SVID's certificate has another SPIFFE ID"),
    ("an over-long hint", change(hint="h" * 1025), "hint is longer than 1024 bytes"),
    ("no certificate", change(certificates=b""), "the SVID: is empty"),
    ("garbage for a certificate", change(certificates=b"\x30\x03abc"), "the SVID: not a certificate in DER"),
    ("a certificate cut short", change(certificates=lambda w: w.first.certificates[:-1]),
     "the SVID: not a certificate in DER"),
    ("bytes behind the certificate", change(certificates=lambda w: w.first.certificates + b"\0"),
     "the SVID: what follows a certificate is not one"),
    ("ten certificates", change(certificates=long_chain), "the SVID: more than 9 certificates"),
    ("the CA first", change(certificates=lambda w: AUTHORITY.der + w.first.certificates),
     "the SVID's chain is not a CA's"),
    ("a CA alone", change(certificates=AUTHORITY.der), "the SVID's first certificate is a CA's"),
    ("a leaf in the chain", change(certificates=lambda w: w.first.certificates * 2),
     "certificate 2 of the SVID's chain is not a CA's"),
    ("an ID that breaks SPIFFE's rules", of_id("spiffe://example.org/a/../b"),
     "the SVID's SPIFFE ID is none"),
    ("an expired leaf", expired, "the SVID has expired"),
    ("a leaf of tomorrow", not_yet, "the SVID is not valid yet"),
    ("no key", change(key=b""), "the SVID's key is not PKCS#8 in DER"),
    ("garbage for a key", change(key=b"\x30\x82\x01"), "the SVID's key is not PKCS#8 in DER"),
    ("an encrypted key", change(key=sealed), "the SVID's key is not PKCS#8 in DER"),
    ("a SEC1 key", change(key=sec1), "the SVID's key is not PKCS#8 in DER"),
    ("bytes behind the key", change(key=lambda w: w.key + b"\0"), "the SVID's key has bytes behind it"),
    ("another's key", change(key=lambda w: fresh().key), "the SVID's key does not fit the certificate"),
    ("an Ed25519 key", change(key=lambda w: pki.pkcs8(ed25519.Ed25519PrivateKey.generate())),
     "the SVID's key is not EC P-256 or P-384, nor RSA of 2048 bits or more"),
    ("an SVID of RSA 1024", with_key(rsa.generate_private_key(65537, 1024)), "the SVID breaks a rule"),
    ("an SVID of EC P-521", with_key(ec.generate_private_key(ec.SECP521R1())), "the SVID breaks a rule"),
    ("no bundle", change(bundle=b""), "bundle of example.org: is empty"),
    ("garbage for a bundle", change(bundle=b"garbage"), "bundle of example.org: not a certificate in DER"),
    ("bytes behind the bundle", change(bundle=lambda w: AUTHORITY.der + b"\0"),
     "bundle of example.org: what follows a certificate is not one"),
    ("a leaf in the bundle", leaf_in_bundle, "bundle of example.org: certificate 2 is not a CA's"),
    ("another trust domain's root in the bundle", foreign_root,
     "bundle of example.org: certificate 2 is of another trust domain"),
    ("65 roots", change(bundle=AUTHORITY.der * 65), "bundle of example.org: more than 64 certificates"),
    ("an SVID of another root", foreign_issuer, "the SVID is not of its trust domain's bundle"),
    ("the own bundle twice", own_twice, "two bundles of example.org"),
    ("1101 bundles", too_many_bundles, "more than 1024 bundles"),
    ("garbage for a revocation list", crl(b"x"), "revocation list 1: not one in DER"),
    ("bytes behind a revocation list", crl(AUTHORITY.crl() + b"\0"), "revocation list 1: not one in DER"),
]


def check_all(bed, bad):
    has = fresh()
    current = [has.answer]
    agent = bed.workload_agent(lambda stream: stream.put(current[0]))
    client = bed.client("min=20", "max=40")
    client.serial(has.serial)
    for number, (what, make, sentence) in enumerate(bad, 1):
        current[0] = make()
        until(lambda: agent.streams["FetchX509SVID"], "a stream")[-1].put(current[0])
        view = client.refuses(sentence)
        contains(view["why"], sentence, what)
        check(view["state"] in ("waiting", "connecting"), f"{what}: the state is {view['state']}")
        equal(client.ask("get")["identity"]["serial"], has.serial, f"{what}: the SVID that stays")
        # The next try gets a good one.
        has = fresh()
        current[0] = has.answer
        client.serial(has.serial)
        equal(client.look()["bad_answers"] >= number, True, f"{what}: bad answers")
    equal(None in client.changes(), False, "was there ever none")
    bed.finish()
    return f"{len(bad)} rules"


@case("an answer that breaks a rule is not taken: SVID, certificates, key", timeout=180)
def svid(bed):
    return check_all(bed, BAD[:30])


@case("an answer that breaks a rule is not taken: bundles, revocation lists", timeout=180)
def bundles(bed):
    return check_all(bed, BAD[30:])


@case("what is wrong with others' bundles costs their bundle, not our SVID")
def foreign(bed):
    has = fresh()
    good = pki.Authority("good.example")
    for name, der in (("spiffe://good.example", good.der), ("spiffe://empty.example", b""),
                      ("spiffe://bad.example", b"garbage"), ("spiffe://stolen.example", good.der),
                      ("spiffe://leaf.example", good.issue("spiffe://leaf.example/x")[0]),
                      ("spiffe://path.example/x", good.der), ("spiffe://UPPER.example", good.der),
                      ("", good.der)):
        has.answer.federated[name] = der
    bed.workload_agent(lambda stream: stream.put(has.answer))
    client = bed.client()
    got = client.serial(has.serial)
    equal(got["bundles"], {"example.org": 1, "good.example": 1}, "bundles")
    until(lambda: any("bundles of other trust domains not taken" in line and "count=7" in line
                      for line in client.log), "a line that says so")
    bed.finish()


@case("keys of RSA 2048 and EC P-384 are taken")
def kinds(bed):
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        has = Workload(AUTHORITY, key=key)
        agent = bed.workload_agent(lambda stream, w=has: stream.put(w.answer))
        equal(bed.client().serial(has.serial)["fits"], True, "key and certificate")
        bed.finish()
        agent.stop()


@case("an answer of 800 KB, with 1000 bundles and 1000 revocation lists; one of 5 MB is refused by its length")
def large(bed):
    has = fresh()
    for i in range(1000):
        # Each with its own root would take minutes to make: roots may be without a name of their own.
        has.answer.federated[f"spiffe://td{i}.example"] = b""
    has.answer.crls.extend([AUTHORITY.crl()] * 1000)
    has.first.hint = "x" * 1024
    roots = pki.Authority("other.example").der
    has.answer.federated["spiffe://other.example"] = roots * 64
    for i in range(20):
        has.answer.federated[f"spiffe://big{i}.example"] = roots * 64
    size = has.answer.ByteSize()
    agent = bed.workload_agent(lambda stream: stream.put(has.answer))
    client = bed.client()
    got = client.serial(has.serial, 30)
    equal((got["crls"], got["bundles"]), (1000, {"example.org": 1, "other.example": 64}), "what came")
    until(lambda: agent.streams["FetchX509SVID"], "a stream")[-1].put(b"\0" * (5 << 20))
    client.refuses("ResourceExhausted: a message of 5242880 bytes: more than 4194304")
    bed.finish()
    return f"{size} bytes"
