# SPDX-License-Identifier: Apache-2.0
"""Writes docs/performance.md, and the plots and results that it shows, from what a run has left."""
import glob
import json
import os
import shutil

from . import arms, plan, profile, report

FUNCTIONS = 100  # the largest of a profile are published

HEAD = """# What kmtls costs

<!-- Written by `vmtest/bench --document DIR`. Do not edit: the text is in vmtest/bench.d/measure/document.py. -->

kmtls, and what one would pick instead, measured in one run: {where}. The same
two pods joined by the same link, one worker each, mutual TLS 1.3, ECDSA P-256 certificates with one CA above them.

{figures}

| arm | what it is |
|---|---|
{arms}

{left_out}
"""

INSTRUCTIONS = """**Figures are instructions that the guest executed, not time.** All of them count: both applications, both
proxies or daemons, the kernel. Instructions are not cycles: a cache miss costs one here, and AES-NI and AVX count as the
few instructions they are; the emulated processor has AES-NI but no AVX2, which makes ChaCha20 (WireGuard) dearer than it
is on hardware. What the figures are good for is comparing arms and versions: round trips and handshakes of a repeated
run agree to about one percent, streams to a few, whatever else the machine does."""

TIME = """**Figures are time**: of one operation the median in microseconds; of streams the CPU time of the whole machine for a
gigabyte, and their rate. Three numbers are the percentiles 50, 90 and 99."""

METHOD = """
## How it is measured

- A **round trip** is a message of 64 B or 16 KB there and back on an established connection, one at a time.
- A **stream** is {stream} there, then as much back, in writes of 64 KB, over one connection or spread over 16; the figure is
  per byte, both directions together.
- A **new connection** is connect(), the full mutual handshake, 64 B there and back, and close(), one after the other; what is
  done for it after its end counts. **Resumed**: the same with a session of before; **symmetric**: with
  `resumption_symmetric`, which is off by default and gives up forward secrecy for an hour. Plaintext and WireGuard have no handshake
  per connection; their figure is that of a plain connection, measured again.
- **Memory**: {memory} connections are opened and left alone. User memory is what the PSS of all proxies or daemons grows by,
  kernel memory what slab, socket buffers, page tables, stacks and per-CPU data grow by, each divided by their number. The
  kernel's part has the applications' own two sockets in it: the column of plaintext shows how much that is.
- **Applications** are Debian's: redis-benchmark (SET of 64 B, 4 clients), wrk (1 thread, 4 connections) against nginx, pgbench -S.
  redis-benchmark and pgbench run twice, with less and with more to do; the difference counts, so neither program's start
  does. wrk is looked at for a while in the middle, and nginx says how many requests there were.
- Boot, setting up and the first operations are not counted. Each figure is the median of {runs} runs; ± is half of what lies
  between the smallest and the largest.
- The proxies' configuration is in [vmtest/bench.d/measure/arms/](../vmtest/bench.d/measure/arms/), one file each. That each arm moves the
  right bytes, and that its wire has TLS 1.3, the suite that is asked for and no plaintext, and takes no client without a
  certificate, is a test: `selftests/vm/run --only bench`.
- `ktls` is a library that is loaded into clients and applications; it does the handshake in connect() and accept() and gives the
  keys to the kernel. The daemon of kmtls has no setting for its order of cipher suites; for AES-256-GCM a library that
  is loaded into it narrows its list to that one.

## How to repeat it

```
scripts/setup
vmtest/bench{quick} --out results
vmtest/bench --document results
```

`vmtest/bench --list` shows arms and metrics, `--only kmtls nginx rtt_64` measures a part, `--kernel 7.2` takes another kernel, `--hardware`
measures on the machine itself, in time.
"""

PROFILE = """
## Where the instructions go

Counted by [vmtest/profile](vmtest.md#where-the-instructions-go-vmtestprofile), nothing is sampled. Beside kmtls the application
itself on kernel TLS, which has two TCP segments, two wakeups and no relay where kmtls has six, six and two.{other}

{tables}

{reasons}
"""


def markdown_table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def cell_text(cell, best):
    value, *more = report.text_of(cell).split(" ")
    return " ".join([f"**{value}**" if best else value, *more])


def tables(results):
    cells, names, parts = report.by_cell(results), report.columns(results), []
    for title, metrics in report.sections(results):
        rows = []
        for metric in metrics:
            unit = next(cell["unit"] for cell in results if cell["metric"] == metric)
            best = report.cheapest(cells, metric)
            rows.append([f"{plan.BY_NAME[metric].title} (`{metric}`)", unit] +
                        [cell_text(cells[name, metric], name == best) if (name, metric) in cells else "" for name in names])
        parts.append(f"## {title[0].upper()}{title[1:]}\n\n" + markdown_table(["", "unit", *names], rows))
        if title.startswith("AES-128"):
            parts.append("![cost of each arm](performance/cost.svg)")
        if title.startswith("applications"):
            parts.append("![applications](performance/applications.svg)")
    rows = report.growth_rows(results)
    if rows:
        text = [[title, *(cell_text(cell, False) for cell in row)] for title, row in rows]
        parts += ["## As it grows\n\nkmtls with open flows beside the one that is measured, with more than one event loop, and with peers in its map.\n\n" +
                  markdown_table(["", *plan.GROWN], text), "![growth](performance/growth.svg)"]
    return "\n\n".join(parts)


def profiles(source):
    """What vmtest/profile has left there, by arm and metric."""
    found = {}
    for path in sorted(glob.glob(source + "/profile-*.json")):
        with open(path, encoding="utf-8") as file:
            one = json.load(file)
        found[one["arm"], one["metric"]] = one
    return found


def reasons():
    with open(os.path.dirname(os.path.abspath(__file__)) + "/profile-notes.md", encoding="utf-8") as file:
        return file.read()


def profile_table(found):
    """Groups, in the order of kmtls's; in brackets what the application alone has of it."""
    rows = []
    for metric in dict.fromkeys(metric for _, metric in found):
        ours, alone = found.get(("kmtls", metric)), found.get(("ktls", metric))
        if not ours:
            continue
        names = [arm for arm, there in (("kmtls", ours), ("ktls", alone)) if there]
        shown = [[group, *(profile.amount(found[arm, metric]["groups"].get(group, 0), ours) for arm in names), f"{value / ours['total']:.1%}"]
                 for group, value in ours["groups"].items() if value / ours["total"] >= 0.004]
        shown.append(["all", *(report.number(found[arm, metric]["total"], ours["unit"]) for arm in names), ""])
        rows.append(f"`{metric}`, {ours['unit']}:\n\n" + markdown_table(["", *(f"`{arm}`" for arm in names), "share of `kmtls`"], shown))
    return "\n\n".join(rows)


def other_run(results, found):
    """A sentence, if the tables of the run are not of what was profiled."""
    cells = report.by_cell(results)
    apart = [metric for (arm, metric), one in found.items() if (arm, metric) in cells and
             abs(cells[arm, metric]["value"] / one["measured"] - 1) > profile.TOLERANCE]
    return " **The profiles are of another version, or measured otherwise, than the tables above.**" if apart else ""


def machine(facts):
    if facts["hardware"]:
        return f"{facts['cpu']}, {facts['cpus']} CPUs, kernel {facts['kernel']}"
    how = f"QEMU {facts['qemu']}, TCG, `-icount shift=0,sleep=off`, one CPU" if facts["counts"] else f"KVM, {facts['cpus']} CPUs"
    return f"a guest ({how}) with kernel {facts['kernel']} on {facts['host_cpu']}"


def versions(facts):
    library = f", with OpenSSL {facts['openssl']}" if "openssl" in facts else ""
    rows = [["kmtls", f"{facts['kmtls']} ({facts['commit']}){library}"], ["WireGuard", f"that of the kernel, {facts['kernel']}"]]
    return markdown_table(["", "version"], rows + [[name, version] for name, version in facts["versions"].items()])


def incomplete(results, quick):
    """A sentence about cells that a whole run has and this one has not."""
    filled = {(cell["arm"], cell["metric"]) for cell in results}
    missing = sorted({metric for arm, metric in plan.cells(plan.steps([], quick)) if (arm, metric) not in filled})
    if not missing:
        return ""
    return " **The run is incomplete**: it lacks, for one arm or all, " + ", ".join(f"`{name}`" for name in missing) + "."


def again(facts):
    """A sentence about cells that were measured after the run, which --again has put in the place of its own."""
    said = ""
    for one in facts.get("again", []):
        of_arms = {}
        for arm, metric in one["cells"]:
            of_arms.setdefault(arm, []).append(f"`{metric}`")
        said += f" Measured again, of {one['date']} ({one['commit']}): "
        said += "; ".join(f"`{arm}`, " + ", ".join(metrics) for arm, metrics in of_arms.items()) + "."
    return said


def text_of(results, facts, found):
    quick, there = facts["quick"], set(report.columns(results))
    sizes = plan.sizes(quick, facts["counts"])
    out = [f"- {arm.name}: {arm.unavailable()}." for arm in arms.find_all() if arm.unavailable()]
    out += [f"- {arm.name}, {metric}: {why}." for arm in arms.find_all() if arm.name in there and not arm.unavailable()
            for metric, why in arm.missing.items()]
    head = HEAD.format(where=machine(facts), figures=INSTRUCTIONS if facts["counts"] else TIME,
                       arms="\n".join(f"| `{name}` | {arms.find(name).title} |" for name in report.columns(results)),
                       left_out=("Not measured, since there is no such thing yet:\n\n" + "\n".join(out)) if out else "")
    method = METHOD.format(stream=f"{sizes['stream'] >> 20} MiB", memory=sizes["memory"], runs=sizes["runs"],
                           quick=" --quick" if quick else "")
    said = "Of " + facts["date"] + (", a quick run: fewer operations, and less growth, than a full one." if quick else ".")
    latency = "\n\n![latency](performance/latency.svg)" if not facts["counts"] else ""
    said += again(facts) + incomplete(results, quick)
    where = "\n" + PROFILE.format(tables=profile_table(found), other=other_run(results, found), reasons=reasons().strip()) if ("kmtls", "rtt_64") in found else ""
    return (head.rstrip() + f"\n\n{said} In bold: the cheapest for a mesh.\n\n" + tables(results) + latency + "\n" + where + method +
            "\n## Versions\n\n" + versions(facts) + "\n")


def write(root, source):
    """Everything is read, and the text is made, before anything is written."""
    with open(source + "/results.json", encoding="utf-8") as file:
        results = json.load(file)
    with open(source + "/run.json", encoding="utf-8") as file:
        facts = json.load(file)
    target = root + "/docs/performance"
    found = {**profiles(target), **profiles(source)}  # a run without profiles keeps those that are there
    text = text_of(results, facts, found)
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(target)
    plots = [f"{plot}.{kind}" for plot in ("cost", "applications", "growth", "latency") for kind in ("png", "svg")]
    for name in ("results.json", "run.json", *plots):
        if os.path.exists(f"{source}/{name}"):
            shutil.copy(f"{source}/{name}", target)
    for (arm, metric), one in found.items():
        with open(f"{target}/profile-{arm}-{metric}.json", "w", encoding="utf-8") as file:
            json.dump({**one, "functions": one["functions"][:FUNCTIONS]}, file, indent=1)
            file.write("\n")
    with open(root + "/docs/performance.md", "w", encoding="utf-8") as file:
        file.write(text)
    return 0
