# SPDX-License-Identifier: Apache-2.0
"""The run itself, where it is measured. Says on stdout what it does, one JSON object a line: begin (a step), result (a
cell), failed (a step, and why). What goes wrong in one step does not keep the others from being done."""
import argparse
import contextlib
import json
import os
import sys
import traceback

from . import applications, loads, plan
from .bed import ADDRESS, Bed, Trouble
from .session import Session


def say(**what):
    print(json.dumps(what), flush=True)


class Growth:
    """What kmtls has to carry beside what is measured: open flows, event loops, or peers in its map."""

    def __init__(self, session):
        self.session = session
        self.idle = None

    def set(self, kind, count):
        self.close()
        self.session.arm.set_loops(count if kind == "loops" else 1)
        if kind == "flows" and count > 1:
            self.idle = loads.hold(self.session, count - 1)
        if kind == "peers":
            self._load_peers(count)

    def close(self):
        if self.idle:
            self.session.bed.stop(self.idle)
        self.idle = None

    def _load_peers(self, count):
        arm, path = self.session.arm, self.session.bed.dir + "/peers"
        with open(path, "w", encoding="ascii") as file:
            for pod in ADDRESS:
                file.write(f"{ADDRESS[pod]}/32 --id {arm.identity(pod)}\n")
            for i in range(count - len(ADDRESS)):
                number = (1 << 23) + (i << 23) // count  # all over 10.128/9
                file.write(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255} --namespace n{i % 50} "
                           "--trust-domain example.org\n")
        for node in "12":
            arm.kmtls(node, "peer", "load", path)


def fill(session, step, growth):
    """The results of a step."""
    if step.session == "growth":
        kind, count = step.metrics[0].removeprefix(plan.GROWN[0] + "_").split("_")
        growth.set(kind, int(count))
        return [loads.measure(session, metric, plan.growth_name(metric, kind, count)) for metric in plan.GROWN]
    metric = step.metrics[0]
    if metric == "mem_user_idle":
        return loads.memory(session)
    if metric in plan.APPLICATIONS:
        return [applications.measure(session, metric)]
    base = metric.removesuffix("_aes256")
    return [loads.measure(session, base, metric)]


def run_session(bed, clock, sizes, steps):
    """The steps of one arm's session."""
    first, begun = steps[0], 0
    try:
        with Session(bed, first.arm, *plan.SESSIONS[first.session], clock, sizes) as session:
            growth = Growth(session)
            with contextlib.closing(growth):
                for step in steps:
                    begun += 1
                    say(begin=step._asdict())
                    try:
                        for cell in fill(session, step, growth):
                            say(result={"arm": step.arm, **cell})
                    except Exception as error:  # pylint: disable=broad-except
                        say(failed=step._asdict(), why=describe(error) + "\n" + bed.show_log())
    except Exception as error:  # pylint: disable=broad-except
        for step in steps[begun:] or [first._replace(metrics=())]:
            say(failed=step._asdict(), why=describe(error) + "\n" + bed.show_log())


def describe(error):
    return str(error) if isinstance(error, Trouble) else "".join(traceback.format_exception(error))


def grouped(steps):
    groups = []
    for step in steps:
        if not groups or (groups[-1][0].arm, groups[-1][0].session) != (step.arm, step.session):
            groups.append([])
        groups[-1].append(step)
    return groups


def facts():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return {"kernel": os.uname().release, "cpus": os.cpu_count(), "cpu": models[0] if models else os.uname().machine}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--time", action="store_true", help="nanoseconds are time and not instructions")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--profile", metavar="DIR", help="where what vmtest/profile needs goes")
    options = parser.parse_args()
    if not options.time and os.cpu_count() != 1:
        sys.exit("bench: instructions are counted with one CPU")
    loads.raise_limits()
    if options.profile:
        os.environ["BENCH_PROFILE"] = options.profile
    bed = Bed()
    clock, sizes = loads.Clock(not options.time), plan.sizes(options.quick, not options.time)
    if not options.time:
        clock.idle()  # not every kernel tells it
    say(facts=facts())
    bed.up()
    try:
        for steps in grouped(plan.steps(options.only, options.quick)):
            run_session(bed, clock, sizes, steps)
    finally:
        bed.down()
    say(done=True)


if __name__ == "__main__":
    main()
