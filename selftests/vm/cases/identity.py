# SPDX-License-Identifier: Apache-2.0
"""Identity backends: rotation and switching under load, sources that are away, nothing enabled; kmtls identity."""
import errno
import os
import re
import subprocess
import threading
import time

from lib import balance
from lib.bed import MARKER
from lib.tap import case, check, contains, equal, until
from lib.traffic import Traffic

from .cli import findings, kmtls, report, wrong
from .policy import connect_and_talk
from .streams import pair, refusal
from .verification import write_crl

ROUTES = (("a", "b", 4), ("b", "c", 6))
PORT = 5870
TEXT = MARKER.encode()
OWN = "    - {name: own, type: builtin, root_file: %s/root.pem}\n"
PKI = """    - name: pki
      type: provided
      cert_file_path: {0}/chain.pem
      key_file_path: {0}/ca-key.pem
      bundle_file_path: {0}/roots.pem
"""


class NewConnections:
    """Connects one after the other, a to b and b to a, until stopped; none may fail."""

    def __init__(self, bed):
        self.bed = bed
        self.near, self.far = bed.new_agent("a"), bed.new_agent("b")
        self.count = 0
        self.error = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.ended.is_set():
                connect_and_talk(self.near, self.far, self.bed.address("b"), PORT, TEXT)
                connect_and_talk(self.far, self.near, self.bed.address("a", 6), PORT, TEXT)
                self.count += 2
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join(60)
        self.near.kill()
        self.far.kill()

    def stop(self):
        self.ended.set()
        self.thread.join(60)
        check(not self.thread.is_alive(), "a connection hangs")
        check(self.error is None, f"after {self.count} new connections one failed: {self.error!r}")
        return self.count


def identity(bed, node):
    return bed.kmtls(node, "identity")


def pods(bed):
    return {pod["pod"]: pod for node in (1, 2) for pod in identity(bed, node)["pods"]}


def settings(bed, **values):
    for node in (1, 2):
        for name, value in values.items():
            bed.kmtls(node, "settings", "set", "identity." + name, str(value))


def write_identity(bed, node, enabled, *backends, mode="strict", more=""):
    """The section `identity` of the node's configuration, which is its last, and its mode. Flows may outlive SVIDs of
    ten seconds: a slow machine may need longer for one connection; verification.py has their end."""
    path = f"{bed.env['state']}/n{node}.yaml"
    with open(path, encoding="ascii") as file:
        text = file.read()
    text = re.sub(r"(?m)^mode: .*\n", "", text[:text.index("identity:")])
    with open(path, "w", encoding="ascii") as file:
        file.write((f"mode: {mode}\n" if mode else "") + text + "identity:\n  trust_domain: example.org\n"
                   f"  enabled: '{enabled}'\n  peer_expiry: warn\n{more}" + ("  backends:\n" + "".join(backends) if backends else ""))


def refused_without_svid(bed, near, far):
    """A connection from node 1 fails since the pod has no SVID, and that is counted."""
    listener = far.listen(bed.address("b"), PORT)
    count = bed.counter(1, "no-identity")
    code, _ = refusal(near, bed.address("b"), PORT)
    check(code, "a connection without an SVID succeeds")
    until(lambda: bed.counter(1, "no-identity") > count, "the refusal is counted", 5)
    listener.close()


def make_pki(bed):
    """A root, an intermediate that may issue leaves only, in the files that PKI names; the directory."""
    where = bed.dir + "/pki"
    if os.path.isdir(where):
        return where
    os.mkdir(where)

    def openssl(name, *argv):
        done = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                               "-days", "30", "-subj", f"/CN={name}", "-keyout", f"{where}/{name}-key.pem", "-out",
                               f"{where}/{name}.pem", "-addext", "keyUsage=critical,keyCertSign,cRLSign", *argv],
                              capture_output=True, text=True, timeout=60, check=False)
        equal(done.returncode, 0, f"openssl: {done.stderr}")

    openssl("root", "-addext", "basicConstraints=critical,CA:TRUE,pathlen:1")
    openssl("ca", "-CA", f"{where}/root.pem", "-CAkey", f"{where}/root-key.pem", "-addext",
            "basicConstraints=critical,CA:TRUE,pathlen:0")
    os.rename(f"{where}/ca.pem", f"{where}/chain.pem")
    os.rename(f"{where}/root.pem", f"{where}/roots.pem")
    os.chmod(f"{where}/ca-key.pem", 0o600)
    return where


def both(bed, enabled):
    """Node by node: a new configuration, as systemctl reload has it."""
    where = make_pki(bed)
    for node in (1, 2):
        write_identity(bed, node, enabled, OWN % bed.env["state"], PKI.format(where))
        bed.testbed("upgrade", str(node))
        equal({pod["source"] for pod in identity(bed, node)["pods"]}, {enabled}, f"sources on node {node}")


def rotations(bed):
    """How often, how long an SVID is valid, and at how many percent of that it is replaced."""
    return (10, 30, 80) if bed.scale > 1 else (3, 10, 30)


def rotate(bed, times, lifetime):
    """Until every pod has so many new SVIDs; what it had and has."""
    before = pods(bed)

    def turned():
        time.sleep(1)  # who looks all the time takes it from those that connect
        found = pods(bed)
        return all(pod["rotations"] - before[name]["rotations"] >= times for name, pod in found.items()) and found

    after = until(turned, f"{times} rotations of every pod", 60 + lifetime * times)
    for name, pod in after.items():
        check(pod["serial"] != before[name]["serial"], f"another serial of {name}")
        equal((pod["failures"], pod["last_error"]), (before[name]["failures"], ""), f"failures of {name}")
    return after


@case("rotation (SVIDs of 10 s, 3 times each) and switching, builtin, provided, builtin, under load: nothing fails",
      mesh=True, timeout=1500, kernel="6.12")
def switching(bed):
    both(bed, "own")  # both roots are known everywhere, before anyone uses the second
    times, lifetime, percent = rotations(bed)
    settings(bed, svid_ttl=f"{lifetime}s", renew_at=percent)
    for node in (1, 2):
        equal(bed.kmtls(node, "identity", "renew"), {"renewed": 2}, "SVIDs renewed by hand")
    before = balance.take(bed)
    with Traffic(bed, ROUTES, 3, 20000) as traffic, NewConnections(bed) as new:
        for backend in (None, "pki", "own"):
            if backend:
                both(bed, backend)
            held = rotate(bed, times, lifetime)
            if backend == "pki":
                equal({pod["issuer"] for pod in held.values()}, {"CN=ca"}, "issuers")
            for pod in held.values():
                check(0 < pod["not_after"] - pod["issued"] <= lifetime, f"lifetime of an SVID: {pod}")
                check(pod["issued"] <= pod["next"] < pod["not_after"], f"next rotation: {pod}")
        count = new.stop()
        said = traffic.stop_whole()
    check(count > 10, f"only {count} new connections")
    settings(bed, svid_ttl="24h", renew_at=80)
    for node in (1, 2):
        bed.kmtls(node, "identity", "renew")
    balance.settle(bed, before)
    return f"{count} new connections; {said}"


@case("rotation (SVIDs of 10 s, 3 times each), builtin, under load: nothing fails", mesh=True, timeout=500)
def rotation(bed):
    """On every kernel, for established flows are the kernel's; switching has the rest."""
    for node in (1, 2):
        write_identity(bed, node, "own", OWN % bed.env["state"])
        bed.testbed("upgrade", str(node))
    times, lifetime, percent = rotations(bed)
    settings(bed, svid_ttl=f"{lifetime}s", renew_at=percent)
    try:
        for node in (1, 2):
            equal(bed.kmtls(node, "identity", "renew"), {"renewed": 2}, "SVIDs renewed by hand")
        with Traffic(bed, ROUTES, 2, 20000) as traffic, NewConnections(bed) as new:
            held = rotate(bed, times, lifetime)
            count = new.stop()
            said = traffic.stop_whole()
        for pod in held.values():
            check(0 < pod["not_after"] - pod["issued"] <= lifetime, f"lifetime of an SVID: {pod}")
        check(count >= 4, f"only {count} new connections")
    finally:
        settings(bed, svid_ttl="24h", renew_at=80)
        for node in (1, 2):
            bed.kmtls(node, "identity", "renew")
    return f"{count} new connections; {said}"


@case("provided: a worker is killed while its files are away, a wrong one is refused by name: the identity stays", mesh=True,
      timeout=200, kernel="6.12")
def provided(bed):
    where = make_pki(bed)
    both(bed, "pki")
    refused = identity(bed, 1)["refused"]
    os.rename(where, where + ".away")
    try:
        rotations = pods(bed)["a"]["rotations"]
        bed.kill_worker(1)
        connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), PORT, TEXT)
        equal(bed.kmtls(1, "identity", "renew", "a"),
              {"renewed": 1, "not_taken": f"{where}/chain.pem: cannot be opened: No such file or directory"},
              "an SVID while the files are away")
        equal((pods(bed)["a"]["rotations"], pods(bed)["a"]["source"]), (rotations + 1, "pki"), "rotations, over workers")
        connect_and_talk(bed.agent("b"), bed.agent("a"), bed.address("a"), PORT, TEXT)
        done = kmtls(bed, 1, "upgrade", timeout=90)
        contains(done.stderr, f"{where}/chain.pem: cannot be opened: No such file or directory", "a reload without files")
    finally:
        os.rename(where + ".away", where)
    os.chmod(f"{where}/ca-key.pem", 0o640)
    done = kmtls(bed, 1, "upgrade", timeout=90)
    contains(done.stderr, "holds a key and is accessible by group or others (mode 0640", "a key for all to see")
    os.chmod(f"{where}/ca-key.pem", 0o600)
    write_identity(bed, 1, "pki", PKI.format(where).replace("ca-key", "root-key"))
    done = kmtls(bed, 1, "upgrade", timeout=90)
    equal(done.returncode, 1, "a reload with the wrong key")
    contains(done.stderr, "root-key.pem: is not the key of CN=ca, the first certificate of", "why")
    equal(identity(bed, 1)["refused"], refused + 3, "configurations refused")
    equal(findings(report(bed), "identity", "warning"), ["the last configuration was refused: " + bed.kmtls(
        1, "status")["upgrade"]["why"]], "what check warns of")
    connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), PORT, TEXT)
    both(bed, "own")


ENDING = {
    "builtin": "    - {{name: ending, type: builtin, svid_ttl: 10s, root_file: {0}/both.pem}}\n",
    "provided": "    - {{name: ending, type: provided, svid_ttl: 10s, cert_file_path: {0}/root.pem, key_file_path: {0}/key.pem,\n"
                "       bundle_file_path: {0}/root.pem}}\n",
}


def write_root(where, seconds):
    """A new root that is valid so long: certificate, key, and both in one file. When it ends."""
    end = int(time.time()) + seconds
    with open(where + "/config", "w", encoding="ascii") as file:
        file.write(f"[ca]\ndefault_ca=own\n[own]\ndatabase={where}/index\nserial={where}/serial\nnew_certs_dir={where}\n"
                   "default_md=sha256\npolicy=policy\nx509_extensions=root\nunique_subject=no\n[policy]\ncommonName=supplied\n"
                   "[root]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
                   "subjectKeyIdentifier=hash\n")
    open(where + "/index", "a", encoding="ascii").close()
    for argv in (("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN=until {end}",
                  "-keyout", "key.pem", "-out", "request"),
                 ("ca", "-batch", "-selfsign", "-notext", "-config", "config", "-create_serial", "-rand_serial", "-keyfile", "key.pem",
                  "-in", "request", "-startdate", time.strftime("%y%m%d%H%M%SZ", time.gmtime(end - seconds - 1)),
                  "-enddate", time.strftime("%y%m%d%H%M%SZ", time.gmtime(end)), "-out", "root.pem")):
        done = subprocess.run(["openssl", *argv], cwd=where, capture_output=True, text=True, timeout=60, check=False)
        equal(done.returncode, 0, f"openssl: {done.stderr}")
    with open(os.open(where + "/both.new", os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
        for name in ("root.pem", "key.pem"):
            with open(f"{where}/{name}", encoding="ascii") as part:
                file.write(part.read())
    os.rename(where + "/both.new", where + "/both.pem")
    return end


def use_ending(bed, where, kind):
    for node in (1, 2):
        write_identity(bed, node, "ending", OWN % bed.env["state"], ENDING[kind].format(where))
        bed.testbed("upgrade", str(node))


@case("builtin, provided: a CA ends: no SVID, each connection refused, and with its successor they talk again", mesh=True,
      timeout=400, kernel="6.12")
def ending(bed):
    where, near, far = bed.dir + "/ending", bed.agent("a"), bed.agent("b")
    os.makedirs(where)
    try:
        for kind in ENDING:
            end = write_root(where, int(10 + 2 * bed.up_seconds))
            since = bed.log_size(1)
            use_ending(bed, where, kind)
            connect_and_talk(near, far, bed.address("b"), PORT, TEXT)
            check(max(pod["not_after"] for pod in pods(bed).values()) <= end, "an SVID beyond its CA")
            until(lambda: max(pod["not_after"] for pod in pods(bed).values()) < time.time(), "the end of all SVIDs",
                  end - time.time() + 15)
            contains(bed.wait_log(1, since, "svid not renewed", "pod=a"), "the CA has expired", f"{kind}: why")
            refused_without_svid(bed, near, far)
            write_root(where, 3600)
            if kind == "builtin":
                use_ending(bed, where, kind)
            else:
                for node in (1, 2):
                    bed.kmtls(node, "identity", "renew")
            connect_and_talk(near, far, bed.address("b"), PORT, TEXT)
            connect_and_talk(far, near, bed.address("a", 6), PORT, TEXT)
    finally:
        both(bed, "own")


@case("a CRL revokes the intermediate that issues: flows below it are reset, also by a worker that did not see their handshakes",
      mesh=True, timeout=200, kernel="6.12")
def intermediate(bed):
    where, path = make_pki(bed), bed.dir + "/pki.crl"
    serial = int(subprocess.run(["openssl", "x509", "-in", f"{where}/chain.pem", "-noout", "-serial"], capture_output=True,
                                text=True, timeout=60, check=True).stdout.strip().rpartition("=")[2], 16)
    signer = {"root": f"{where}/roots.pem", "key": f"{where}/root-key.pem", "serial": serial}
    both(bed, "pki")
    write_crl(bed, path, False, **signer)
    since = bed.log_size(2)
    write_identity(bed, 2, "pki", OWN % bed.env["state"], PKI.format(where), more=f"  crl_files: [{path}]\n")
    try:
        bed.testbed("upgrade", "2")
        bed.wait_log(2, since, "CRL file taken", "revoked=0")
        before = bed.counter(2, "peer-revoked")
        near, far = pair(bed, 4, "a", "b", PORT + 1), pair(bed, 4, "d", "b", PORT + 2)
        bed.kill_worker(2)
        for client, server in (near, far):
            client.sendall(TEXT)
            equal(server.recv_exactly(len(TEXT)), TEXT, "over the kill of a worker")
        write_crl(bed, path, True, **signer)
        for client, server in (near, far):
            equal(server.recv_to_end(), (b"", errno.ECONNRESET), "the end at the server")
            equal(client.recv_to_end(), (b"", errno.ECONNRESET), "the end at the client")
        # d to b is node 2's alone: it looks at both ends.
        check(bed.counter(2, "peer-revoked") - before in (2, 3), "counts of peer-revoked")
        bed.agent("b").listen(bed.address("b"), PORT + 3)
        code, _ = refusal(bed.agent("a"), bed.address("b"), PORT + 3)
        check(code, "a connection below the revoked CA succeeds")
        bed.wait_log(2, since, "connection refused", "reason=revoked")
    finally:
        bed.close_sockets()
        both(bed, "own")
    connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), PORT, TEXT)


@case("identity: what is shown, renewed and given out, and what is refused", mesh=True, kernel="6.12")
def shown(bed):
    state = bed.env["state"]
    if "pki" not in {backend["name"] for backend in identity(bed, 1)["backends"]}:
        both(bed, "own")
    before = pods(bed)["a"]
    text = kmtls(bed, 1, "identity").stdout
    lines = text[text.index("BACKEND"):].splitlines()
    equal([line.split()[:3] for line in lines[:3]],
          [["BACKEND", "TYPE", "STATE"], ["own", "builtin", "enabled"], ["pki", "provided", "trusted"]], "backends")
    equal((lines[4].split()[0], [line.split()[0] for line in lines[5:]]), ("POD", ["a", "c"]), "pods")
    contains(lines[5], before["serial"], "the serial")
    contains(lines[5], "O=kmtls", "the issuer")
    equal(kmtls(bed, 1, "identity", "renew", "a").stdout, "1 renewed\n", "renew")
    check(pods(bed)["a"]["serial"] != before["serial"], "another serial")
    with open(f"{state}/root.pem", encoding="ascii") as file:
        root = file.read()
    certificate = root[root.index("-----BEGIN CERT"):root.index("-----END CERTIFICATE-----") + 26]
    equal(kmtls(bed, 1, "identity", "ca", "show").stdout, certificate, "the certificate")
    equal(sorted(kmtls(bed, 1, "identity", "ca", "show", "--backend", "own", "--key").stdout.splitlines()),
          sorted(root.splitlines()), "the certificate and the key")
    with open(make_pki(bed) + "/chain.pem", encoding="ascii") as file:
        equal(kmtls(bed, 1, "identity", "ca", "show", "--backend=pki").stdout, file.read(), "the other one's certificate")
    key = make_pki(bed) + "/ca-key.pem"
    wrong(bed, 1, (
        (("identity", "all"), 2, "identity: all: unexpected argument"),
        (("identity", "renew", "z"), 1, "identity renew: pod z: is not enrolled"),
        (("identity", "renew", "a", "b"), 2, "identity renew: b: unexpected argument"),
        (("identity", "ca"), 2, "identity ca: show: is missing"),
        (("identity", "ca", "hide"), 2, "identity ca: hide: unknown action, there is: show"),
        (("identity", "ca", "show", "--backend", "x"), 1, "identity ca: backend: x: there is none of that name"),
        (("identity", "ca", "show", "--backend"), 2, "identity ca: --backend: a value is missing"),
        (("identity", "ca", "show", "--key", "--json"), 2, "identity ca: --key: cannot be together with --json"),
        (("identity", "ca", "show", "--key", "--backend", "pki"), 1,
         f"identity ca: --key: pki was provided: its key is where you have put it, {key}"),
        (("settings", "set", "identity.key_type", "rsa-1024"), 1,
         "settings set: identity.key_type: rsa-1024: must be ec-p256, ec-p384, rsa-2048, rsa-3072 or rsa-4096"),
        (("settings", "set", "identity.renew_at", "9"), 1,
         "settings set: identity.renew_at: 9: must be a number from 10 to 95"),
        (("settings", "set", "identity.svid_ttl", "3650d1"), 1,
         "settings set: identity.svid_ttl: 3650d1: must be between 10s and 3650d"),
        (("settings", "set", "identity.root_ttl", "1h"), 1,
         "settings set: identity.root_ttl: 1h: must not be shorter than identity.svid_ttl")))


@case("nothing enabled: mutual TLS is off, and the log, status and check say so; a root in memory gives no key", mesh=True,
      timeout=200, kernel="6.12")
def nothing(bed):
    state = bed.env["state"]
    since = bed.log_size(1)
    write_identity(bed, 1, "", OWN % state, mode=None)
    bed.testbed("restart", "1")
    try:
        bed.wait_log(1, since, "no identity backend is enabled: mutual TLS is off")
        status = bed.kmtls(1, "status")
        equal((status["mode"], status["identity"]["enabled"]), ("off", ""), "mode and what is enabled")
        contains(kmtls(bed, 1, "status").stdout, "no backend is enabled: mutual TLS is off", "status")
        contains(kmtls(bed, 1, "identity").stdout, "no backend is enabled: mutual TLS is off", "identity")
        equal(findings(report(bed), "identity", "warning"), ["no identity backend is enabled: mutual TLS is off"], "check")
        wrong(bed, 1, ((("identity", "renew"), 1,
                        "identity renew: no identity backend is enabled (identity.enabled): mutual TLS is off"),
                       (("identity", "ca", "show"), 1,
                        "identity ca: no identity backend is enabled: say which one (--backend)"),
                       (("settings", "set", "identity.svid_ttl", "1h"), 1,
                        "settings set: identity.svid_ttl: the identity backend that is enabled has no such setting")))
        connect_and_talk(bed.agent("a"), bed.agent("c"), bed.address("c"), PORT, TEXT)
        write_identity(bed, 1, "own", "    - {name: own, type: builtin, key_manager: memory}\n")
        bed.testbed("restart", "1")
        wrong(bed, 1, ((("identity", "ca", "show", "--key"), 1, "identity ca: --key: the key manager of own is memory: its "
                        "key is in no file and is not given out"),))
        connect_and_talk(bed.agent("a"), bed.agent("c"), bed.address("c"), PORT, TEXT)
    finally:
        for node in (1, 2):
            write_identity(bed, node, "own", OWN % state)
            bed.testbed("restart", str(node))
    connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), PORT, TEXT)
