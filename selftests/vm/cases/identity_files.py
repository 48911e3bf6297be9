# SPDX-License-Identifier: Apache-2.0
"""SVIDs that somebody else writes into directories, one for each pod: rotation under load, torn sets, expiry, and a worker
that is killed while the directories are away."""
import os
import shutil
import subprocess
import time

from lib import balance
from lib.bed import MARKER
from lib.tap import case, check, contains, equal, until
from lib.traffic import Traffic

from .cli import kmtls
from .identity import OWN, NewConnections, identity, make_pki, pods, refused_without_svid, settings, write_identity
from .policy import connect_and_talk

ROUTES = (("a", "b", 4), ("b", "c", 6))
PORT = 5872
TEXT = MARKER.encode()
FILES = "    - {{name: files, type: files, directory: '{0}/{{pod}}'}}\n"


class Writer:
    """A CA with its own root, which writes sets as Kubernetes does: ..data is turned to a new directory."""

    def __init__(self, bed):
        self.bed = bed
        self.pki = make_pki(bed)
        self.where = bed.dir + "/written"
        self.number = int(time.time())  # no other writer's
        self.ids = {name: pod["id"] for name, pod in pods(bed).items()}
        os.makedirs(self.where, exist_ok=True)
        with open(self.pki + "/signer.pem", "w", encoding="ascii") as file:
            file.write(self.read("chain.pem") + self.read("ca-key.pem"))

    def read(self, name):
        with open(f"{self.pki}/{name}", encoding="ascii") as file:
            return file.read()

    def write(self, seconds, names=None):
        """One set for each pod, valid so long from now."""
        self.number += 1
        for pod in names or self.ids:
            made = f"{self.where}/{pod}/..{self.number}"
            os.makedirs(made)
            subprocess.run([self.bed.tools + "/certify", self.pki + "/signer.pem", self.ids[pod], "-1", str(seconds),
                            made + "/both"], check=True, timeout=60)
            with open(made + "/both", encoding="ascii") as file:
                both = file.read()
            os.unlink(made + "/both")
            at = both.index("-----BEGIN", 1)
            parts = sorted((both[:at], both[at:]), key=lambda part: "PRIVATE" in part)
            for name, text in (("svid.pem", parts[0] + self.read("chain.pem")), ("svid_key.pem", parts[1]),
                               ("bundle.pem", self.read("roots.pem"))):
                with open(os.open(f"{made}/{name}", os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
                    file.write(text)
                if not os.path.islink(f"{self.where}/{pod}/{name}"):
                    os.symlink("..data/" + name, f"{self.where}/{pod}/{name}")
            os.symlink(f"..{self.number}", f"{self.where}/{pod}/..new")
            os.rename(f"{self.where}/{pod}/..new", f"{self.where}/{pod}/..data")


    def replace(self, pod, name, text):
        """One file of the pod's set, in one step."""
        path = f"{self.where}/{pod}/..{self.number}/{name}"
        with open(os.open(path + ".new", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            file.write(text)
        os.rename(path + ".new", path)


def both(bed, writer, enabled):
    for node in (1, 2):
        write_identity(bed, node, enabled, OWN % bed.env["state"], FILES.format(writer.where))
        bed.testbed("upgrade", str(node))


def use(bed):
    """Files are what is enabled, also if this case is run alone."""
    writer = Writer(bed)
    if identity(bed, 1)["enabled"] != "files":
        writer.write(600)
        both(bed, writer, "files")
    return writer


def own_again(bed):
    """Back to the CA of the daemons' own."""
    for node in (1, 2):
        write_identity(bed, node, "own", OWN % bed.env["state"])
        bed.testbed("upgrade", str(node))
    settings(bed, svid_ttl="24h")
    shutil.rmtree(bed.dir + "/written", ignore_errors=True)


def rotated(bed, writer, seconds, names=None):
    """Writes sets; every pod has its own within three seconds. What they have."""
    before = pods(bed)
    writer.write(seconds, names)
    until(lambda: all(pods(bed)[name]["rotations"] > before[name]["rotations"] for name in names or before),
          "new SVIDs of every pod", 10)
    after = pods(bed)
    equal([pod["failures"] for pod in after.values()], [pod["failures"] for pod in before.values()], "failures")
    return after


@case("files: enabled and rotated by turning ..data (SVIDs of 20 s, 3 times), under load: nothing fails", mesh=True, timeout=600,
      kernel="6.12")
def rotation(bed):
    writer = Writer(bed)
    both(bed, writer, "own")
    equal({(one["name"], one["source"]) for one in identity(bed, 1)["backends"]}, {("own", ""), ("files", "waiting")},
          "nothing is there, and nobody needs it")
    writer.write(600)
    until(lambda: all(one["source"] in ("", "ok") for node in (1, 2) for one in identity(bed, node)["backends"]),
          "sets of every pod", 10)
    for node in (1, 2):
        until(lambda: identity(bed, node)["backends"][1]["roots"] == 1, "its root", 10)
    before = balance.take(bed)
    with Traffic(bed, ROUTES, 3, 20000) as traffic:
        both(bed, writer, "files")
        until(lambda: {pod["source"] for pod in pods(bed).values()} == {"files"}, "every SVID from files", 10)
        with NewConnections(bed) as new:
            for _ in range(10 if bed.scale > 1 else 3):
                # Writing takes a while on a slow machine, and the clock runs: the next one at once, or with much left.
                held = rotated(bed, writer, max(30, int(3 * bed.up_seconds)) if bed.scale > 1 else 20)
                equal({pod["issuer"] for pod in held.values()}, {"CN=ca"}, "issuers")
                if bed.scale > 1:
                    time.sleep(15)
            rotated(bed, writer, 600)
            count = new.stop()
        said = traffic.stop_whole()
    check(count > 10, f"only {count} new connections")
    balance.settle(bed, before)
    return f"{count} new connections; {said}"


@case("files: torn sets are not taken, what has expired is refused and comes back, a worker is killed while all is away", mesh=True,
      timeout=200, kernel="6.12")
def trouble(bed):
    writer = use(bed)
    near, far = bed.agent("a"), bed.agent("b")
    rotated(bed, writer, 8)
    # Torn: the key of another one. Once in the log, once counted, and what there was goes on.
    not_taken, since = identity(bed, 1)["not_taken"], bed.log_size(1)
    with open(f"{writer.where}/c/svid_key.pem", encoding="ascii") as file:
        writer.replace("a", "svid_key.pem", file.read())
    bed.wait_log(1, since, "files not taken", "svid_key.pem: is not the key of the SVID in svid.pem")
    equal(identity(bed, 1)["not_taken"], not_taken + 1, "sets not taken")
    equal((pods(bed)["a"]["source_state"], pods(bed)["a"]["source"]), ("refused", "files"), "a's source")
    contains(kmtls(bed, 1, "identity").stdout, "a: refused: ", "what identity says")
    connect_and_talk(near, far, bed.address("b"), PORT, TEXT)
    # No successor comes.
    bed.wait_log(1, since, "svid has no successor yet", "pod=a", seconds=20)
    until(lambda: pods(bed)["a"]["not_after"] < time.time(), "the end of a's SVID", 20)
    refused_without_svid(bed, near, far)
    rotated(bed, writer, 600)
    connect_and_talk(near, far, bed.address("b"), PORT, TEXT)
    connect_and_talk(far, near, bed.address("a", 6), PORT, TEXT)
    # Away.
    os.rename(writer.where, writer.where + ".away")
    try:
        until(lambda: pods(bed)["a"]["source_state"] == "waiting", "that it is away", 10)
        for node in (1, 2):
            bed.kill_worker(node)
        connect_and_talk(near, far, bed.address("b"), PORT, TEXT)
        connect_and_talk(far, near, bed.address("a", 6), PORT, TEXT)
        done = kmtls(bed, 1, "identity", "renew", "a")
        equal(done.returncode, 1, "renew without files")
        contains(done.stderr, f"{writer.where}/a: cannot be opened: No such file or directory", "why")
    finally:
        os.rename(writer.where + ".away", writer.where)
    rotated(bed, writer, 600)
    connect_and_talk(near, far, bed.address("b"), PORT, TEXT)


@case("files: settings of a CA are not there; back to a CA of the daemon's own", mesh=True, timeout=120, kernel="6.12")
def back(bed):
    use(bed)
    done = kmtls(bed, 1, "settings", "set", "identity.svid_ttl", "1h")
    contains(done.stderr, "identity.svid_ttl: the identity backend that is enabled has no such setting", "svid_ttl")
    done = kmtls(bed, 1, "identity", "ca", "show")
    contains(done.stderr, "identity ca: it has no CA here", "ca show")
    own_again(bed)
    equal({pod["source"] for pod in pods(bed).values()}, {"own"}, "sources")
    connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), PORT, TEXT)
