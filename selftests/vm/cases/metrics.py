# SPDX-License-Identifier: Apache-2.0
"""Metrics for Prometheus: scraped under load and beside scrapers that disturb; what they say is what the verbs say."""
import collections
import re
import shutil
import subprocess
import time

from lib.tap import Skip, case, check, contains, equal, until
from lib.traffic import Traffic

from .cli import kmtls
from .identity import identity
from .policy import connect_and_talk

ADDRESS = "127.0.0.1:9464"
SAMPLE = re.compile(r'(kmtls_[a-z_]+)(?:\{((?:[a-z0-9_]+="(?:[^"\\]|\\.)*",?)+)\})? (-?[0-9]+)')
OF_PODS = {"svid_not_before_timestamp_seconds": "not_before", "svid_not_after_timestamp_seconds": "not_after",
           "svid_next_rotation_timestamp_seconds": "next", "svid_rotations_total": "rotations",
           "svid_rotation_failures_total": "failures"}
# More of them than there are places, each with half a request and a byte now and then, and another for each that is dropped.
LORIS = """
import socket, time
held = []
while True:
    held += [socket.create_connection(("127.0.0.1", 9464)) for _ in range(40 - len(held))]
    for one in list(held):
        try:
            one.send(b"GET /metrics HTTP/1.1\\r\\nX: y"[len(held) % 9:][:1])
        except OSError:
            held.remove(one)
    time.sleep(0.3)
"""


def parse(text):
    """Name (without kmtls_) and labels -> value; each once."""
    samples = collections.defaultdict(dict)
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = SAMPLE.fullmatch(line)
        check(match, f"a line that is no sample: {line}")
        labels = tuple(re.findall(r'="((?:[^"\\]|\\.)*)"', match.group(2) or ""))
        name = match.group(1)[len("kmtls_"):]
        check(labels not in samples[name], f"{name} {labels} is there twice")
        samples[name][labels] = int(match.group(3))
    return samples


def curl(bed, *argv, status=0):
    return bed.run("n1", "curl", "-sS", "-m", "20", *argv, timeout=40, status=status)


def scrape(bed):
    """The samples, and how long it took."""
    start = time.monotonic()
    text = curl(bed, "--fail", f"http://{ADDRESS}/metrics")
    return parse(text), time.monotonic() - start


def serve(bed, listen):
    bed.configure(1, "metrics", listen and f"{{listen: '{listen}'}}")
    bed.testbed("upgrade", "1")


def agrees(bed):
    """What stands still says the same everywhere; what counts is in between what it was and what it is."""
    before, shown = bed.counters(1), identity(bed, 1)
    samples, _ = scrape(bed)
    after = bed.counters(1)
    for (reason,), value in samples["events_total"].items():
        check(before.get(reason, 0) <= value <= after.get(reason, 0), f"{reason}: {value}, not "
              f"{before.get(reason, 0)} to {after.get(reason, 0)}")
    equal(set(after) - {reason for (reason,) in samples["events_total"]}, set(), "reasons without a sample")
    for pod in shown["pods"]:
        for metric, field in OF_PODS.items():
            equal(samples[metric][(pod["pod"],)], pod[field], f"{metric} of {pod['pod']}")
        equal(samples["svid_source_state"][(pod["pod"], pod["source_state"])], 1, "state of the source")
        equal((samples["pod_info"][(pod["pod"], pod["id"])], samples["svid_valid"][(pod["pod"],)]), (1, 1), "the pod")
    equal(len(samples["pod_info"]), len(shown["pods"]), "pods")
    for backend in shown["backends"]:
        equal(samples["identity_backend_info"][(backend["name"], backend["type"], backend["state"])], 1, "a backend")
        roots = [value for labels, value in samples["trust_root_not_after_timestamp_seconds"].items()
                 if labels[0] == backend["name"]]
        equal((len(roots), roots[0]), (backend["roots"], backend["not_after"]), "its roots")
    return samples


def flows_agree(bed):
    totals, samples = bed.flow_totals(1), scrape(bed)[0]
    counted = collections.Counter()
    for (state, _), value in samples["flows"].items():
        counted[{"confirmed": "handshake"}.get(state, state)] += value
    return {name: totals[name] for name in counted} == counted and counted["established"]


@case("scraped under load: what is said is what the verbs say; slow scrapers, a kill and upgrades change nothing", mesh=True,
      timeout=240, kernel="6.12")
def scraped(bed):
    serve(bed, ADDRESS)
    slowest = 0
    try:
        with Traffic(bed, (("a", "b", 4), ("b", "c", 6)), 4, 20000) as traffic:
            bed.run("a", "bash", "-c", f"for i in 1 2 3; do echo 12345 >/dev/udp/{bed.address('b')}/9; done")
            samples = agrees(bed)
            until(lambda: flows_agree(bed), "flows by state are those of kmtls status")
            udp = bed.kmtls(1, "status")["udp"]
            for direction in ("sent", "received"):
                equal([sum(value for labels, value in samples[f"pod_udp_{what}_total"].items() if labels[1] == direction)
                       for what in ("packets", "bytes")],
                      [udp[f"{direction}_packets"], udp[f"{direction}_bytes"]], f"UDP that was {direction}")
            check(samples["pod_udp_packets_total"][("a", "sent")] >= 3, "UDP of a")
            loris = bed.spawn("n1", "python3", "-c", LORIS)
            time.sleep(1)
            for _ in range(5):
                slowest = max(slowest, scrape(bed)[1])
            check(slowest < 4, f"beside slow scrapers a scrape took {slowest:.1f} s")
            connect_and_talk(bed.agent("a"), bed.agent("b"), bed.address("b"), 5891, b"beside slow scrapers")
            check(loris.poll() is None, "the slow scraper is there")
            loris.kill()
            starts = samples["worker_starts_total"][()]
            bed.kill_worker(1)
            equal(scrape(bed)[0]["worker_starts_total"], {(): starts + 1}, "workers started")
            said = traffic.stop_whole()
        equal(curl(bed, "-o", "/dev/null", "-w", "%{http_code} %{content_type}", f"http://{ADDRESS}/else"),
              "404 text/plain; charset=utf-8", "another path")
        equal(curl(bed, "-I", f"http://{ADDRESS}/metrics").splitlines()[1],
              "Content-Type: text/plain; version=0.0.4; charset=utf-8", "what HEAD tells")
        path = bed.dir + "/metrics.sock"
        serve(bed, path)
        check(parse(curl(bed, "--unix-socket", path, "http://node/metrics"))["pods"] == {(): 2}, "by a Unix socket")
        check(curl(bed, f"http://{ADDRESS}/metrics", status=None).returncode == 7, "nobody listens any more")
    finally:
        serve(bed, None)
    equal(set(parse(kmtls(bed, 1, "metrics").stdout)), set(samples), "metrics of the verb, where nothing is served")
    contains(kmtls(bed, 1, "--json", "metrics").stdout, '"content_type": "text/plain; version=0.0.4', "as JSON")
    return f"slowest scrape {slowest:.2f} s; {said}"


@case("promtool has nothing to say against the text", mesh=True, kernel="6.12")
def promtool(bed):
    if not shutil.which("promtool"):
        raise Skip("there is no promtool (package prometheus; scripts/setup --test installs it)")
    text = kmtls(bed, 1, "metrics").stdout
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60,
                          check=False)
    equal((done.returncode, done.stdout, done.stderr), (0, "", ""), "promtool check metrics")
