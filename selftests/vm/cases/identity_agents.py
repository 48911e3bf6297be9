# SPDX-License-Identifier: Apache-2.0
"""SVIDs from a SPIFFE agent (grpcio, in the guest), by the Workload API and by the Delegated Identity API: rotation under
load, an agent that is killed, a worker that is killed while the agent is away, what is taken back, federation."""
import os
import signal
import subprocess
import sys
import time

from lib import balance
from lib.bed import MARKER, ROOT
from lib.tap import case, check, contains, equal, until
from lib.traffic import Traffic

from .cli import findings, kmtls, report
from .identity import OWN, NewConnections, identity, pods, refused_without_svid, write_identity
from .identity_files import rotated
from .policy import connect_and_talk
from .streams import refusal

ROUTES = (("a", "b", 4), ("b", "c", 6))
PORT = 5875
TEXT = MARKER.encode()
WORKLOAD = "    - {{name: spire, type: workload-api, socket: 'unix://{0}/api.sock'}}\n"
DELEGATED = "    - {{name: spire, type: delegated-identity, socket: '{0}/admin.sock'}}\n"
ABROAD = "other.example"


class Agent:
    """An agent of one trust domain, a process of its own, and the CA whose SVIDs it gives."""

    def __init__(self, bed, trust_domain="example.org", nodes=(1, 2)):
        sys.path[:0] = [path for path in (ROOT + "/selftests/agent", bed.build + "/proto-python") if path not in sys.path]
        from support import pki  # needs python3-cryptography, as the agent needs python3-grpcio
        import delegated_pb2
        import workload_pb2
        self.delegated, self.workload = delegated_pb2, workload_pb2
        self.bed = bed
        self.trust_domain = trust_domain
        self.authority = pki.Authority(trust_domain, uri="https://ca.example")  # says of no trust domain that it is its own
        self.where = bed.dir + "/agent." + trust_domain
        self.ids = {name: pod["id"] for node in nodes for pod in identity(bed, node)["pods"] for name in [pod["pod"]]}
        self.federated = {}  # trust domain: roots
        self.has = {}  # pod: (ID, leaf, key, serial)
        self.process = None
        os.makedirs(self.where, exist_ok=True)
        for name in os.listdir(self.where):
            os.unlink(f"{self.where}/{name}")

    def start(self):
        """Returns when it serves."""
        with open(self.where + "/log", "ab") as log:
            self.process = subprocess.Popen(["/usr/bin/python3", ROOT + "/selftests/agent/serve", self.where],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={**os.environ, "O": self.bed.build})
        self.bed.processes.append(self.process)
        size = os.path.getsize(self.where + "/log")

        def said():
            with open(self.where + "/log", encoding="utf-8", errors="replace") as log:
                text = log.read()[size:]
            check(self.process.poll() is None, f"the agent ended: {text[-800:]}")
            return "ready" in text

        until(said, "the agent serves", 60)
        return self

    def kill(self):
        if not self.process:
            return
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def _put(self, name, message):
        with open(f"{self.where}/.new", "wb") as file:
            file.write(message.SerializeToString())
        os.rename(f"{self.where}/.new", f"{self.where}/{name}")

    def file(self, pod, spiffe_id=None):
        """Of what the pod is given by Delegated Identity, named after its selectors."""
        account = (spiffe_id or self.ids[pod]).rpartition("/")[2]
        return f"pod.k8s:pod-name:{pod}+k8s:sa:{account}"

    def write(self, seconds, names=None, signer=None):
        """New SVIDs of these pods (all), valid so long from now."""
        for pod in names or self.ids:
            self.has[pod] = (self.ids[pod], *(signer or self.authority).issue(self.ids[pod], ttl=seconds))
        self.publish(signer)

    def take(self, pod):
        """The pod's SVID is no more."""
        del self.has[pod]
        os.unlink(f"{self.where}/{self.file(pod)}")
        self.publish()

    def publish(self, signer=None):
        """What it has, into the files that the process serves; bundles first."""
        own = (signer or self.authority).der
        bundles = self.delegated.BundlesAnswer()
        for name, der in {self.trust_domain: own, **self.federated}.items():
            bundles.bundles["spiffe://" + name] = der
        self._put("bundles", bundles)
        answer = self.workload.SvidAnswer()
        for name, der in self.federated.items():
            answer.federated["spiffe://" + name] = der
        for pod, (spiffe_id, leaf, key, _) in self.has.items():
            answer.svids.append(self.workload.Svid(id=spiffe_id, certificates=leaf, key=key, bundle=own))
            domain, _, path = spiffe_id.removeprefix("spiffe://").partition("/")
            svid = self.delegated.Svid(certificates=[leaf], id=self.delegated.Id(trust_domain=domain, path="/" + path))
            self._put(self.file(pod), self.delegated.SvidAnswer(
                svids=[self.delegated.SvidWithKey(svid=svid, key=key)],
                federates_with=["spiffe://" + name for name in self.federated]))
        self._put("svids", answer)


def both(bed, agent, backend, enabled="spire"):
    for node in (1, 2):
        write_identity(bed, node, enabled, OWN % bed.env["state"], backend.format(agent.where))
        bed.testbed("upgrade", str(node))


def source(bed, node):
    """How it stands with the agent, as `kmtls identity` has it."""
    return next(one for one in identity(bed, node)["backends"] if one["name"] == "spire")


def wait_source(bed, state, node=1, seconds=15):
    return until(lambda: source(bed, node)["source"] == state and source(bed, node), f"the source is {state}", seconds)


@case("workload-api enabled and rotated (SVIDs of 10 s, 3 times), then delegated-identity; the agent killed and started; all under "
      "load: nothing fails", mesh=True, timeout=1200, kernel="6.12")
def rotation(bed):
    agent = Agent(bed).start()
    agent.write(600)
    both(bed, agent, WORKLOAD, "own")  # known everywhere, before anyone uses it
    for node in (1, 2):
        until(lambda: source(bed, node)["roots"] == 1, "its root", 10)
    before = balance.take(bed)
    with Traffic(bed, ROUTES, 3, 20000) as traffic:
        both(bed, agent, WORKLOAD)
        equal({pod["source"] for pod in pods(bed).values()}, {"spire"}, "every SVID from the agent")
        with NewConnections(bed) as new:
            rotate(bed, agent, 3)
            rotated(bed, agent, 600)
            restart(bed, agent)
            count = new.stop()
        both(bed, agent, DELEGATED)  # of the same CA, so nobody needs to know it before
        with NewConnections(bed) as new:
            rotate(bed, agent, 1)
            rotated(bed, agent, 600)
            if bed.scale > 1:
                restart(bed, agent)
            count += new.stop()
        said = traffic.stop_whole()
    check(count > 10, f"only {count} new connections")
    balance.settle(bed, before)
    bed.spiffe_agent = agent
    return f"{count} new connections; {said}"


def rotate(bed, agent, times):
    """So often; ten times in a long run. SVIDs are of ten seconds, or thirty; of more where the machine is so slow that they would
    be over in the middle of a handshake: bringing up the testbed takes five seconds elsewhere."""
    seconds = max(30 if bed.scale > 1 else 10, int(3 * bed.up_seconds))
    for _ in range(10 if bed.scale > 1 else times):
        held = rotated(bed, agent, seconds)
        equal({name: pod["serial"] for name, pod in held.items()}, {name: has[3] for name, has in agent.has.items()}, "serials")
        if bed.scale > 1:
            time.sleep(15)


def restart(bed, agent):
    """Killed and started; what it gives then is taken."""
    agent.kill()
    wait_source(bed, "waiting")
    agent.start()
    for node in (1, 2):
        wait_source(bed, "ok", node, 40)
    rotated(bed, agent, 600)


def use(bed):
    """The agent of the case before, and delegated-identity; also if a case is run alone."""
    if getattr(bed, "spiffe_agent", None):
        return bed.spiffe_agent
    bed.spiffe_agent = agent = Agent(bed).start()
    agent.write(600)
    both(bed, agent, DELEGATED)
    return agent


def has_svid(bed, pod):
    found = pods(bed)[pod]
    return found["source_state"] == "ok" and found["not_after"] > time.time()


@case("delegated-identity: taken back, of another ID, away while a worker is killed, expired: each refused or kept, and said; it comes "
      "back", mesh=True, timeout=400, kernel="6.12")
def delegated(bed):
    agent = use(bed)
    near, far = bed.agent("a"), bed.agent("b")
    one = source(bed, 1)
    equal((one["type"], one["state"], one["source"], one["agent"]["connected"]), ("delegated-identity", "enabled", "ok", True),
          "the backend")
    check(0 <= time.time() - one["agent"]["updated"] < 600, "the last update")
    contains(kmtls(bed, 1, "identity").stdout, "spire: connected, the last answer ", "what identity says")
    equal(findings(report(bed), "identity", "warning"), [], "what check warns of")
    # One pod's SVID is taken back, the other's on the same node is not.
    since = bed.log_size(1)
    agent.take("a")
    bed.wait_log(1, since, "svid taken back", "pod=a")
    refused_without_svid(bed, near, far)
    equal((pods(bed)["a"]["source_state"], pods(bed)["a"]["source_error"]), ("refused", "the agent has no SVID for it"), "a")
    connect_and_talk(bed.agent("c"), far, bed.address("b"), PORT, TEXT)
    # Another SPIFFE ID's by a's selectors: not taken.
    not_taken, right = identity(bed, 1)["not_taken"], agent.ids["a"]
    agent.ids["a"] = agent.ids["c"]
    agent.write(600, ["a"])
    os.link(f"{agent.where}/{agent.file('a')}", f"{agent.where}/{agent.file('a', right)}")
    bed.wait_log(1, since, "no SVID of a pod", "pod=a", "none of the 1 SVIDs has the SPIFFE ID " + right, agent.ids["c"])
    check(identity(bed, 1)["not_taken"] > not_taken, "not counted")
    agent.ids["a"] = right
    agent.write(15, ["a"])
    until(lambda: has_svid(bed, "a"), "a's SVID", 40)
    connect_and_talk(near, far, bed.address("b"), PORT, TEXT)
    # Away, and a worker dies.
    agent.kill()
    wait_source(bed, "waiting")
    bed.kill_worker(2)
    connect_and_talk(far, bed.agent("c"), bed.address("c", 6), PORT, TEXT)
    contains(findings(report(bed), "identity", "warning")[0], "agent.example.org/admin.sock: ", "what check warns of")
    done = kmtls(bed, 2, "identity", "renew", "b")
    equal(done.returncode, 1, "renew without an agent")
    contains(done.stderr, "admin.sock: ", "why")
    until(lambda: pods(bed)["a"]["not_after"] < time.time(), "the end of a's SVID", 20)
    refused_without_svid(bed, near, far)
    agent.start()
    agent.write(600)
    until(lambda: all(has_svid(bed, pod) for pod in agent.ids), "new SVIDs of every pod", 60)
    connect_and_talk(near, far, bed.address("b"), PORT, TEXT)
    connect_and_talk(far, near, bed.address("a", 6), PORT, TEXT)


def enrol(bed, node, pod, trust_domain):
    bed.kmtls(node, "pod", "del", pod)
    bed.kmtls(node, "pod", "add", pod, "--netns", f"/run/netns/kt-{pod}", "--cgroup", f"{bed.env['cgroup']}/{pod}", "--id",
              f"spiffe://{trust_domain}/ns/default/sa/{pod}")


def expect(bed, pod, trust_domain):
    """What node 1 promises for the pod's addresses."""
    for version, bits in ((4, 32), (6, 128)):
        bed.kmtls(1, "peer", "add", f"{bed.address(pod, version)}/{bits}", "--id", f"spiffe://{trust_domain}/ns/default/sa/{pod}")


def move_node(bed, trust_domain, enabled, *backends):
    """Node 2 and its pods into a trust domain."""
    write_identity(bed, 2, enabled, *backends)
    path = f"{bed.env['state']}/n2.yaml"
    with open(path, encoding="ascii") as file:
        text = file.read()
    with open(path, "w", encoding="ascii") as file:
        file.write(text.replace("trust_domain: example.org", "trust_domain: " + trust_domain))
    bed.testbed("upgrade", "2")
    for pod in ("b", "d"):
        enrol(bed, 2, pod, trust_domain)
    expect(bed, "b", trust_domain)


@case("federation: two agents, two trust domains, one on each node; each believed by its own bundle, and by no other", mesh=True,
      timeout=300, kernel="6.12")
def federation(bed):
    near, far = bed.agent("a"), bed.agent("b")
    if getattr(bed, "spiffe_agent", None):
        bed.spiffe_agent.kill()
        bed.spiffe_agent = None
    home, abroad = Agent(bed, nodes=(1,)), Agent(bed, ABROAD, nodes=())
    abroad.ids = {pod: f"spiffe://{ABROAD}/ns/default/sa/{pod}" for pod in ("b", "d")}
    try:
        home.start().write(600)
        abroad.start().write(600)
        write_identity(bed, 1, "spire", WORKLOAD.format(home.where))
        bed.testbed("upgrade", "1")
        move_node(bed, ABROAD, "spire", DELEGATED.format(abroad.where))
        until(lambda: all(pod["source"] == "spire" for pod in pods(bed).values()), "every SVID from its agent", 20)
        # Strangers to each other.
        count = bed.counter(1, "unknown-trust-domain")
        listener = far.listen(bed.address("b"), PORT)
        code, _ = refusal(near, bed.address("b"), PORT)
        check(code, "a connection to an unknown trust domain succeeds")
        listener.close()
        check(bed.counter(1, "unknown-trust-domain") > count, f"counters: {bed.counters(1)}")
        # Bundles of the other one, while flows and SVIDs stay as they are.
        home.federated[ABROAD], abroad.federated["example.org"] = abroad.authority.der, home.authority.der
        before = pods(bed)
        home.publish()
        abroad.publish()
        until(lambda: talks(near, far, bed.address("b")), "a talks to b", 20)
        connect_and_talk(far, near, bed.address("a", 6), PORT, TEXT)
        equal({name: pod["serial"] for name, pod in pods(bed).items()}, {name: pod["serial"] for name, pod in before.items()},
              "serials")
        with NewConnections(bed) as new:
            home.write(600)
            abroad.write(600)
            until(lambda: all(pod["serial"] != before[name]["serial"] for name, pod in pods(bed).items()), "new SVIDs", 20)
            count = new.stop()
        # Both away: new workers have SVIDs and bundles all the same.
        home.kill()
        abroad.kill()
        for node in (1, 2):
            wait_source(bed, "waiting", node)
            bed.kill_worker(node)
        connect_and_talk(near, far, bed.address("b"), PORT, TEXT)
        connect_and_talk(far, near, bed.address("a", 6), PORT, TEXT)
        abroad.start()
        # An SVID of the other trust domain whose root is ours: ours vouches for ours only.
        before = pods(bed)
        abroad.write(600, signer=home.authority)
        until(lambda: pods(bed)["b"]["serial"] != before["b"]["serial"], "b's SVID of the wrong root", 20)
        listener = far.listen(bed.address("b"), PORT)
        code, _ = refusal(near, bed.address("b"), PORT)
        check(code, "a connection to an SVID of the wrong root succeeds")
        listener.close()
    finally:
        home.kill()
        abroad.kill()
        write_identity(bed, 1, "own", OWN % bed.env["state"])
        bed.testbed("upgrade", "1")
        move_node(bed, "example.org", "own", OWN % bed.env["state"])
    connect_and_talk(near, far, bed.address("b"), PORT, TEXT)
    return f"{count} new connections"


def talks(near, far, address):
    listener = far.listen(address, PORT)
    try:
        client = near.connect(address, PORT)
    except OSError:
        return False
    finally:
        listener.close()
    client.close()
    return True
