# SPDX-License-Identifier: Apache-2.0
"""kmtls explain: the rule it names and the result, for scenarios written into the maps; where a row says
who connects, what it says is compared with what happens."""
import contextlib
import errno
import json
import re
import struct
import subprocess
import typing

from lib.tap import case, check, contains, equal

from .authz import KINDS, digest, subject
from .peers import hexes, key_bytes, value_bytes
from .policy import talk

OPEN, CLOSED = 5870, 5871
IN, OUT = 1, 2
OFF, PERMISSIVE, STRICT = 1, 2, 3
SCOPES = {"mesh": 1, "namespace": 2, "pod": 3, "port": 4}
TEXT = b"TEXT-OF-A-SCENARIO"  # some are in the clear
NOBODY = "spiffe://example.org/ns/default/sa/nobody-has-this-text"


# --- what a scenario writes: (map, key, value), value None: the entry goes ---------------------------


def mode(scope, number, direction=OUT, name="", port=0):
    key = struct.pack("<QBBHI", digest(name) if name else 0, SCOPES[scope], direction, port, 0)
    return "modes", key, None if number is None else struct.pack("<I", number)


def rule(source, destination, action, port=0):
    (kind, source_hash), (other, destination_hash) = source, destination
    return "authorizations", struct.pack("<QQBBHI", source_hash, destination_hash, kind, other, port, 0), struct.pack("<I", action)


def exact(text):
    return KINDS["spiffe"], digest(text)


class Writer:
    """Writes to the maps of one node, and puts back what was there."""

    def __init__(self, bed, node):
        self.bed = bed
        self.node = node
        self.directory = f"{bed.env['pins']}/n{node}"
        self.before = {}
        for name in ("modes", "peers", "authorizations", "settings", "pods"):
            done = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", f"{self.directory}/{name}"],
                                  capture_output=True, text=True, timeout=30, check=True)
            self.before[name] = {raw(entry["key"]): raw(entry["value"]) for entry in json.loads(done.stdout)}

    def write(self, entries):
        lines = []
        for name, key, value in entries:
            words = f"pinned {self.directory}/{name} key hex {' '.join(hexes(key))}"
            if value is not None:
                lines.append(f"map update {words} value hex {' '.join(hexes(value))}")
            else:
                lines.append(f"map delete {words}")
        done = subprocess.run(["bpftool", "batch", "file", "-"], input="\n".join(lines) + "\n", capture_output=True,
                              text=True, timeout=30, check=False)
        equal(done.returncode, 0, f"status of bpftool batch: {done.stdout}{done.stderr}")

    @contextlib.contextmanager
    def written(self, entries):
        if entries:
            self.write(entries)
        try:
            yield
        finally:
            back = [(name, key, self.before[name].get(key)) for name, key, value in entries
                    if value is not None or key in self.before[name]]
            if back:
                self.write(back)

    def authorization_default(self, number):
        key = bytes(4)
        old = self.before["settings"][key]
        return "settings", key, old[:4] + struct.pack("<I", number) + old[8:]

    def namespace_of(self, pod, name):
        """As if the pod had been enrolled as name/pod."""
        cookie = next(entry["netns_cookie"] for entry in self.bed.kmtls(self.node, "pod", "list") if entry["name"] == pod)
        key = struct.pack("<Q", cookie)
        old = self.before["pods"][key]
        return "pods", key, old[:8] + struct.pack("<Q", digest(name)) + old[16:]


def raw(words):
    return bytes(int(word, 16) for word in words)


# --- what happens ---------------------------------------------------------------------------------


def outcome(bed, near, far, port, version, listener):
    """encrypted, plaintext, or what explain calls what a refused connect() sees."""
    node = 2 if "x" == near else 1
    before = bed.counter(node, "established")
    client = bed.agent(near).socket(10 if version == 6 else 2)
    code = client.connect_ex((bed.address(far, version), port))
    if code:
        client.close()
        return errno.errorcode[code]
    client.sendall(TEXT)
    listener.settimeout(0.3 if near == "x" else 5)
    try:
        server, _ = listener.accept()
    except TimeoutError:
        answer, code = client.recv_to_end()
        check(len(answer) <= 7 and code in (0, errno.ECONNRESET), f"it ends with {code} and {answer[:60]!r}")
        client.close()
        return "connected, then ECONNRESET"
    equal(server.recv_exactly(len(TEXT)), TEXT, "what the server got")
    talk(server, client, TEXT)
    server.close()
    client.close()
    return "encrypted" if bed.counter(node, "established") > before else "plaintext"


# --- the scenarios --------------------------------------------------------------------------------


class Scenario(typing.NamedTuple):
    title: str
    node: int
    writes: typing.Callable  # of (writer, bed): a list
    ends: tuple  # from, to: places, or "loopback"
    result: str
    decided_by: str
    reason: str = ""
    sees: str = ""
    states: dict = {}  # "stage rule": state
    port: int = OPEN
    version: int = 4
    real: bool = True  # connects as well
    says: str = ""  # in the text of some step


def nothing(_writer, _bed):
    return []


def modes(*entries):
    return lambda writer, bed: [mode(*args, **kwargs) for args, kwargs in entries]


def m(*args, **kwargs):
    return args, kwargs


def peer(place, length=32, **value):
    return lambda writer, bed: [("peers", key_bytes(prefix(bed, place, length)), value_bytes(**value))]


def prefix(bed, place, length=32):
    if length == 32:
        return f"{bed.address(place)}/32"
    check(length == 16, "only /16 is made here")
    return ".".join(bed.address(place).split(".")[:2]) + ".0.0/16"


def both(*parts):
    return lambda writer, bed: [entry for part in parts for entry in part(writer, bed)]


def rules(*entries):
    """(source, destination, action, port): places, or subjects."""

    def subject_of(bed, word):
        return exact(bed.env[word + "_id"]) if len(word) == 1 else subject(word)

    return lambda writer, bed: [rule(subject_of(bed, source), subject_of(bed, destination), action, port)
                                for source, destination, action, port in entries]


def default_deny(writer, _bed):
    return [writer.authorization_default(2)]


EPERM = {"reason": "no-peer", "sees": "EPERM"}
RESET = {"reason": "not-mesh", "sees": "connected, then ECONNRESET"}
DEAD = {"sees": "ECONNREFUSED"}
ALLOW, DENY, DRY_RUN = 1, 2, 3

SCENARIOS = (
    # --- out of a, towards another node
    Scenario("strict, a meshed peer", 1, nothing, "ab", "encrypted", "mesh-peer",
             states={"outbound peers": "applies", "outbound mode-mesh": "applies", "authorization authorization": "elsewhere"}),
    Scenario("strict, a meshed peer over IPv6", 1, nothing, "ab", "encrypted", "mesh-peer", version=6),
    Scenario("strict, a stranger", 1, nothing, "ax", "refused", "strict", **EPERM, states={"outbound peers": "none"}),
    Scenario("loopback", 1, nothing, ("a", "loopback"), "plaintext", "loopback", real=False),
    Scenario("its own address", 1, nothing, "aa", "plaintext", "own-address", real=False),
    Scenario("strict mesh, pod off", 1, modes(m("pod", OFF, name="a")), "ax", "refused", "strict", **EPERM,
             states={"outbound mode-pod": "ignored", "outbound mode-mesh": "applies"}, says="ignored, the mesh is strict"),
    Scenario("strict mesh, pod's port off", 1, modes(m("port", OFF, name="a", port=OPEN)), "ax", "refused", "strict",
             **EPERM, states={"outbound mode-pod-port": "ignored", "outbound mode-mesh": "applies"}),
    Scenario("strict mesh, pod permissive", 1, modes(m("pod", PERMISSIVE, name="a")), "ax", "refused", "strict", **EPERM,
             states={"outbound mode-pod": "ignored"}),
    Scenario("strict mesh, namespace off", 1,
             both(modes(m("namespace", OFF, name="shop")), lambda writer, bed: [writer.namespace_of("a", "shop")]),
             "ax", "refused", "strict", **EPERM, states={"outbound mode-namespace": "ignored"}),
    Scenario("mesh off, namespace strict", 1,
             both(modes(m("mesh", OFF), m("namespace", STRICT, name="shop")),
                  lambda writer, bed: [writer.namespace_of("a", "shop")]),
             "ax", "refused", "strict", **EPERM, states={"outbound mode-namespace": "applies", "outbound mode-mesh": "overridden"}),
    Scenario("the port excluded for all, under a strict mesh", 1, nothing, "ax", "plaintext", "mode-off", port=7999,
             states={"outbound mode-port": "applies", "outbound mode-mesh": "overridden", "outbound peers": ""}),
    Scenario("the excluded port, strict for the pod", 1, modes(m("port", STRICT, name="a", port=7999)), "ax", "refused",
             "strict", **EPERM, port=7999, states={"outbound mode-pod-port": "applies", "outbound mode-port": "overridden"}),
    Scenario("mesh off", 1, modes(m("mesh", OFF)), "ax", "plaintext", "mode-off"),
    Scenario("mesh off, pod strict", 1, modes(m("mesh", OFF), m("pod", STRICT, name="a")), "ax", "refused", "strict",
             **EPERM, states={"outbound mode-pod": "applies", "outbound mode-mesh": "overridden"}),
    Scenario("mesh off, pod strict, its port off", 1,
             modes(m("mesh", OFF), m("pod", STRICT, name="a"), m("port", OFF, name="a", port=OPEN)), "ax", "plaintext",
             "mode-off", states={"outbound mode-pod-port": "applies", "outbound mode-pod": "overridden"}),
    Scenario("mesh permissive, a stranger", 1, modes(m("mesh", PERMISSIVE)), "ax", "plaintext", "permissive"),
    Scenario("mesh permissive, a meshed peer", 1, modes(m("mesh", PERMISSIVE)), "ab", "encrypted", "mesh-peer"),
    Scenario("mesh permissive, pod strict", 1, modes(m("mesh", PERMISSIVE), m("pod", STRICT, name="a")), "ax", "refused",
             "strict", **EPERM, states={"outbound mode-pod": "applies"}),
    Scenario("nothing said of the mesh", 1, modes(m("mesh", None)), "ax", "refused", "strict", **EPERM,
             states={"outbound mode-mesh": "applies"}, says="nothing is said: strict"),
    Scenario("a mode nobody knows", 1, modes(m("mesh", 9)), "ax", "refused", "strict", **EPERM),
    # --- the peers map
    Scenario("a bypass of every port", 1, peer("x", kind=2, match=0), "ax", "plaintext", "bypass",
             states={"outbound peers": "applies"}, says="bypass, every port"),
    Scenario("a bypass of this port", 1, peer("x", kind=2, match=0, ports=(53, OPEN)), "ax", "plaintext", "bypass"),
    Scenario("a bypass of another port", 1, peer("x", kind=2, match=0, ports=(53,)), "ax", "refused", "strict", **EPERM,
             states={"outbound peers": "no"}),
    Scenario("a bypass within a wider mesh prefix", 1,
             both(peer("x", 16, text="spiffe://example.org", match=3), peer("x", kind=2, match=0)), "ax", "plaintext",
             "bypass", says="/32: bypass"),
    Scenario("a mesh prefix around a bypass of another address", 1,
             both(peer("x", 16, kind=2, match=0), peer("x", kind=7)), "ax", "refused", "bad-peer", reason="bad-policy",
             sees="EPERM", says="/32: kind 7"),
    Scenario("a kind nobody knows, permissive", 1, both(modes(m("mesh", PERMISSIVE)), peer("x", kind=7)), "ax", "refused",
             "bad-peer", reason="bad-policy", sees="EPERM", states={"outbound peers": "unreadable"}),
    Scenario("a match nobody knows", 1, peer("b", text=NOBODY, match=9), "ab", "refused", "bad-peer", reason="bad-policy",
             sees="EPERM"),
    Scenario("a promise without a text", 1, peer("b", text=NOBODY), "ab", "refused", "promise", reason="no-promise", **DEAD),
    # --- from a to c, both here
    Scenario("both ends here", 1, nothing, "ac", "encrypted", "mesh-peer",
             states={"identity promise": "yes", "inbound listener": "yes", "authorization authorization": "applies",
                     "inbound strict": "applies"}),
    Scenario("both here, another is promised", 1,
             lambda writer, bed: [("peers", key_bytes(prefix(bed, "c")), value_bytes(text=bed.env["d_id"]))], "ac",
             "refused", "promise", reason="wrong-peer", **DEAD),
    Scenario("both here, a closed port", 1, nothing, "ac", "refused", "no-listener", reason="no-listener", **DEAD, port=CLOSED),
    Scenario("both here, any port", 1, nothing, "ac", "encrypted", "mesh-peer", port=0, real=False,
             states={"outbound mode-port": "needs-port", "inbound listener": "needs-port",
                     "authorization authorization-port": "needs-port"}),
    Scenario("both here, denied", 1, rules(("a", "c", DENY, 0)), "ac", "refused", "authorization", reason="denied", **DEAD,
             says="rule deny"),
    Scenario("both here, denied on another port", 1, rules(("a", "c", DENY, CLOSED)), "ac", "encrypted", "mesh-peer"),
    Scenario("both here, the default denies", 1, default_deny, "ac", "refused", "authorization", reason="denied", **DEAD,
             says="default deny"),
    Scenario("both here, the default denies, the namespace may", 1,
             both(default_deny, rules(("namespace:example.org/default", "c", ALLOW, OPEN))), "ac", "encrypted", "mesh-peer",
             says="rule allow"),
    # --- into b, from outside
    Scenario("a meshed source", 2, nothing, "ab", "encrypted", "mesh-peer", states={"inbound peers": "applies"}),
    Scenario("a meshed source, denied here", 2, rules(("a", "b", DENY, OPEN)), "ab", "refused", "authorization",
             reason="denied", **DEAD),
    Scenario("a meshed source, a dry-run rule", 2, rules(("any", "b", DRY_RUN, 0)), "ab", "encrypted", "mesh-peer",
             says="a dry-run rule would deny it"),
    Scenario("strict, a stranger comes", 2, nothing, "xb", "refused", "strict", **RESET),
    Scenario("strict mesh, pod off inbound", 2, modes(m("pod", OFF, IN, name="b")), "xb", "refused", "strict", **RESET,
             states={"inbound mode-pod": "ignored"}),
    Scenario("the excluded port, a stranger comes", 2, nothing, "xb", "plaintext", "mode-off", port=7999),
    Scenario("mesh off inbound", 2, modes(m("mesh", OFF, IN)), "xb", "plaintext", "mode-off"),
    Scenario("a bypassed source", 2, peer("x", kind=2, match=0, ports=(OPEN,)), "xb", "plaintext", "bypass"),
    Scenario("a source bypassed on another port", 2, peer("x", kind=2, match=0, ports=(53,)), "xb", "refused", "strict", **RESET),
    Scenario("permissive, a stranger comes", 2, modes(m("mesh", PERMISSIVE, IN)), "xb", "plaintext", "permissive"),
    Scenario("permissive mesh, pod strict, a stranger comes", 2, modes(m("mesh", PERMISSIVE, IN), m("pod", STRICT, IN, name="b")),
             "xb", "refused", "strict", **RESET),
    Scenario("permissive mesh, pod strict, its port off, a stranger comes", 2,
             modes(m("mesh", PERMISSIVE, IN), m("pod", STRICT, IN, name="b"), m("port", OFF, IN, name="b", port=OPEN)),
             "xb", "plaintext", "mode-off"),
    Scenario("permissive, a source of a kind nobody knows", 2, both(modes(m("mesh", PERMISSIVE, IN)), peer("x", kind=7)), "xb",
             "refused", "bad-peer", **RESET),
)


def explain(bed, scenario):
    near, far = scenario.ends
    address = "127.0.0.1" if far == "loopback" else bed.address(far, scenario.version)
    port = f":{scenario.port}" if scenario.port else ""
    to = f"[{address}]{port}" if scenario.version == 6 else address + port
    return bed.kmtls(scenario.node, "explain", near if scenario.node == 1 else bed.address(near, scenario.version), to)


def check_answer(answer, scenario):
    got = {name: answer[name] for name in ("result", "decided_by", "reason", "sees")}
    equal(got, {"result": scenario.result, "decided_by": scenario.decided_by, "reason": scenario.reason,
                "sees": scenario.sees}, f"{scenario.title}: what explain says ({answer['text']})")
    states = {f"{step['stage']} {step['rule']}": step["state"] for step in reversed(answer["steps"])}
    for name, state in scenario.states.items():
        equal(states.get(name, ""), state, f"{scenario.title}: state of {name}")
    deciding = [step["rule"] for step in answer["steps"] if step["state"] == "decides"]
    equal(deciding, [scenario.decided_by], f"{scenario.title}: steps that decide")
    contains(" | ".join(step["text"] for step in answer["steps"]), scenario.says, f"{scenario.title}: texts")


@case("explain names the rule and the result, and so it happens", mesh=True, timeout=300, kernel="6.12")
def scenarios(bed):
    check(len(SCENARIOS) >= 30, "there are too few scenarios")
    listeners = {(place, port): bed.agent(place).listen("::", port) for place in "bcx" for port in (OPEN, 7999)}
    writers = {node: Writer(bed, node) for node in (1, 2)}
    for scenario in SCENARIOS:
        near, far = scenario.ends
        with writers[scenario.node].written(scenario.writes(writers[scenario.node], bed)):
            check_answer(explain(bed, scenario), scenario)
            if not scenario.real:
                continue
            happened = outcome(bed, near, far, scenario.port, scenario.version, listeners.get((far, scenario.port)))
        expected = scenario.sees if scenario.result == "refused" else scenario.result
        equal(happened, expected, f"{scenario.title}: what happened")


@case("explain shows the flows there are, and why one of them is as it is", mesh=True, kernel="6.12")
def flows(bed):
    writer = Writer(bed, 1)
    listener = bed.agent("b").listen("", OPEN)
    client = bed.agent("a").connect(bed.address("b"), OPEN)
    server, _ = listener.accept()
    talk(client, server, TEXT)
    to = f"{bed.address('b')}:{OPEN}"
    answer = bed.kmtls(1, "explain", "a", to)
    equal((answer["established"], len(answer["flows"])), (1, 1), "flows of the pair")
    equal(bed.kmtls(1, "explain", "a", f"{bed.address('b')}:{CLOSED}")["established"], 0, "flows to another port")
    flow = answer["flows"][0]
    answer = bed.kmtls(1, "explain", "--flow", flow)
    equal((answer["flow"]["is"], answer["flow"]["same"], answer["result"]), ("encrypted", True, "encrypted"), "the flow")
    equal(answer["destination"]["address"], bed.address("b"), "its destination")
    there = bed.kmtls(2, "explain", bed.address("a"), f"b:{OPEN}")
    equal(there["established"], 1, "flows of the pair on the server's node")
    answer = bed.kmtls(2, "explain", "--flow", there["flows"][0])
    equal((answer["flow"]["role"], answer["source"]["id"]), ("server", bed.env["a_id"]), "role, and who proved to be the client")
    with writer.written([mode("mesh", OFF)]):
        answer = bed.kmtls(1, "explain", "--flow", flow)
        equal((answer["flow"]["is"], answer["flow"]["same"], answer["result"]), ("encrypted", False, "plaintext"),
              "the flow, after the mode has changed")
    client.close()
    server.close()


def asked(bed, *words):
    done = subprocess.run([bed.build + "/kmtls", "--socket", f"{bed.env['state']}/n1/control.sock", "explain", *words],
                          capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


@case("explain for people, of UDP, and its exact errors", mesh=True, kernel="6.12")
def words(bed):
    status, out, _ = asked(bed, "a", f"{bed.address('x')}:{OPEN}")
    equal(status, 0, "exit status")
    check(re.search(r"^outbound +mode-mesh +applies +strict$", out, re.M), f"the mode's line: {out}")
    check(re.search(r"^outbound +strict +decides ", out, re.M), f"the deciding line: {out}")
    check(re.search(r"^result +refused$", out, re.M) and re.search(r"^connect\(\) +EPERM$", out, re.M), f"the result: {out}")
    answer = bed.kmtls(1, "explain", "a", f"{bed.address('x')}:53", "--udp")
    equal((answer["protocol"], answer["result"], answer["decided_by"]), ("udp", "plaintext", "udp"), "UDP")
    for line, status, error in (
            ([], 2, "SRC: is missing"),
            (["a"], 2, "DST: is missing"),
            (["a", "b", "c"], 2, "c: unexpected argument"),
            (["a", "b:0"], 2, "b:0 0: must be a number from 1 to 65535"),
            (["a", "b:65536"], 2, "b:65536 65536: must be a number from 1 to 65535"),
            (["a", "b:http"], 2, "b:http http: must be a number from 1 to 65535"),
            (["a", "b:"], 2, "b: : must be a number from 1 to 65535"),
            (["a", ":80"], 2, ":80: must be a pod or an IP address, and may have a :PORT"),
            (["a", "[fd00::1"], 2, "[fd00::1: must be [ADDRESS] or [ADDRESS]:PORT"),
            (["a", "[fd00::1]80"], 2, "[fd00::1]80: must be [ADDRESS] or [ADDRESS]:PORT"),
            (["a", "[b]:80"], 2, "[b]:80: b is not an IPv6 address"),
            (["a", "fd00::1::2"], 2, "fd00::1::2: fd00::1::2 is not an IPv6 address"),
            (["a", "nobody:80"], 1, "explain: destination: nobody: neither a pod of this node nor an IP address"),
            (["nobody", "a"], 1, "explain: source: nobody: neither a pod of this node nor an IP address"),
            ([bed.address("x"), bed.address("b")], 1, "is a pod of this node: nothing of it can be seen here"),
            (["a", "fd00::9", "--tcp"], 2, "--tcp: unknown option"),
            (["--flow", "x"], 1, "explain: flow: x: must be SLOT.GENERATION, as in kmtls flows"),
            (["--flow", "1.2.3"], 1, "explain: flow: 1.2.3: must be SLOT.GENERATION, as in kmtls flows"),
            (["--flow", "99999.1"], 1, "explain: flow: 99999.1: there is no such flow"),
            (["--flow", "1.1", "a"], 2, "a: unexpected argument"),
            (["--flow", "1.1", "--udp"], 2, "--flow and --udp exclude each other")):
        got = asked(bed, *line)
        equal((got[0], got[1]), (status, ""), f"status and output of explain {' '.join(line)}: {got[2]}")
        contains(got[2], error, f"the error of explain {' '.join(line)}")
