# SPDX-License-Identifier: Apache-2.0
"""Traffic both ways (tools/crosswise) and killers of workers (tools/killer)."""
import collections
import json
import subprocess

from .tap import Failure, check, equal, until

BAD = ("refused", "resets", "cut", "wrong", "other", "hung")


def output(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


class Traffic:
    """Connections between pods, each end sending and checking. routes: (client, server, version).

    connections and rate are those of each route; rate is bytes a second and direction. It begins when it
    is made, and is stopped by stop() or abandoned by the end of a with statement."""

    port = 5400
    number = 0

    def __init__(self, bed, routes, connections, rate, at_once=25, patience=60, connect_seconds=60):
        self.bed = bed
        self.total = connections * len(routes)
        self.servers, self.clients = [], []
        Traffic.number += 1
        served = collections.defaultdict(list)
        for _, server, version in routes:
            Traffic.port = 5400 + (Traffic.port - 5400 + 1) % 200
            served[server].append((version, Traffic.port))
        try:
            for server, ends in served.items():
                self.servers.append(self._start(server, "serve", "-d", patience, *(bed.at(server, port, version)
                                                                                   for version, port in ends)))
            self._until_said("ready", self.servers, 20)
            groups = collections.defaultdict(list)
            taken = {server: list(ends) for server, ends in served.items()}
            for client, server, version in routes:
                port = next(end for end in taken[server] if end[0] == version)
                taken[server].remove(port)
                groups[client].append(bed.at(server, port[1], version))
            for seed, (client, to) in enumerate(groups.items()):
                self.clients.append(self._start(client, "dial", "-c", connections * len(to), "-r", rate, "-e",
                                                100 * Traffic.number + seed, "-w", at_once, "-d", patience, *to))
            self._until_said("connected", self.clients, connect_seconds)
        except BaseException:
            self.kill()
            raise

    def _start(self, place, *argv):
        path = f"{self.bed.dir}/crosswise.{Traffic.number}.{len(self.servers) + len(self.clients)}"
        with open(path, "wb") as file:
            process = subprocess.Popen([*self.bed.enter(place), self.bed.tools + "/crosswise", *map(str, argv)],
                                       stdin=subprocess.PIPE, stdout=file, stderr=file)
        self.bed.processes.append(process)
        return process, path, place

    @staticmethod
    def _until_said(word, group, seconds):
        for process, path, place in group:

            def said(process=process, path=path, place=place):
                if process.poll() is not None and word not in output(path):
                    raise Failure(f"crosswise in {place} ended: status {process.returncode} {output(path)!r}")
                return word in output(path)

            until(said, f"crosswise in {place} says {word}", seconds)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        for process, _, _ in self.servers + self.clients:
            if process.poll() is None:
                process.kill()
            process.wait()

    def stop(self, seconds=90):
        """Both sides end what they have begun. The results of all sides, added up, for each role."""
        for process, _, _ in self.servers + self.clients:  # servers first
            process.stdin.close()
        sums = []
        for group in (self.servers, self.clients):
            total = collections.Counter()
            errors = []
            for process, path, place in group:
                try:
                    process.wait(seconds)
                except subprocess.TimeoutExpired:
                    raise Failure(f"crosswise in {place} does not end: {output(path)!r}") from None
                check(process.returncode == 0, f"crosswise in {place}: status {process.returncode} {output(path)!r}")
                result = json.loads(output(path).splitlines()[-1])
                if result.pop("error"):
                    errors.append(f"{place}: {json.loads(output(path).splitlines()[-1])['error']}")
                for name, value in result.items():
                    total[name] = max(total[name], value) if name.endswith("_ms") else total[name] + value
            sums.append((dict(total), "; ".join(errors)))
        return sums

    def stop_whole(self, seconds=90):
        """Stops; every connection must be whole, at both of its ends. What to say about it."""
        (served, served_error), (dialled, dialled_error) = self.stop(seconds)
        for side, found, error in (("servers", served, served_error), ("clients", dialled, dialled_error)):
            bad = {name: found[name] for name in BAD if found[name]}
            check(not bad, f"{side}: {bad}, {found['ok']} whole; {error}")
            equal(found["ok"], self.total, f"whole connections of the {side}")
        check(min(served["bytes"], dialled["bytes"]) > 0, "no byte has passed")
        return (f"{self.total} connections whole, {served['bytes'] / 1e6:.1f} and {dialled['bytes'] / 1e6:.1f} MB, "
                f"longest silence {max(served['silence_ms'], dialled['silence_ms']) / 1000:.1f} s")


class Killer:
    """SIGKILL for the workers of these nodes, each at random moments of its own, while a with statement lasts
    or until count are dead (each)."""

    def __init__(self, bed, nodes=(1, 2), count=0, interval=(20, 200), seed=1):
        self.count = count
        self.results = []
        self.processes = []
        for node in nodes:
            process = subprocess.Popen([bed.tools + "/killer", "-n", str(count), "-i", f"{interval[0]}:{interval[1]}",
                                        "-e", str(seed + node), f"{bed.env['state']}/n{node}.pid"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            bed.processes.append(process)
            self.processes.append(process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        for process in self.processes:
            process.stdin.close()
        return self.wait(10)

    def wait(self, seconds):
        """What was killed and missed, on each node."""
        for process in self.processes[len(self.results):]:
            try:
                process.wait(seconds)  # not communicate(): that would end its stdin
            except subprocess.TimeoutExpired:
                raise Failure(f"the killer has not found {self.count} workers to kill in {seconds} s") from None
            self.results.append(json.loads(process.stdout.read()))
        return self.results
