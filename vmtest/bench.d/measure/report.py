# SPDX-License-Identifier: Apache-2.0
"""What a run has found, for people: the table, and the plots by gnuplot."""
import json
import os
import subprocess

from . import arms, plan

PLOTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "plots")
COLOURS = {"kmtls": 0x1B7837, "kmtls-accel": 0x5AAE61, "direct": 0xBBBBBB, "ktls": 0x999999}
GREEN, PLAIN = "\033[32m", "\033[0m"
WIDTH = 19
OPERATIONS = ("rtt_64", "rtt_16k", "stream_64k_1", "stream_64k_16", "conn_full", "conn_resumed", "conn_symmetric", "mem_user_idle", "mem_kernel_idle")


def number(value, unit):
    """1234567 instructions as 1.23M."""
    if unit.startswith("instructions/") or unit.startswith("CPU"):
        return f"{value:.2f}"
    if unit == "us":
        return f"{value:.1f}" if value < 100 else f"{value:.0f}"
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            shown = value / size
            return f"{shown:.2f}{letter}" if shown < 10 else f"{shown:.1f}{letter}" if shown < 100 else f"{shown:.0f}{letter}"
    return f"{value:.0f}"


def text_of(cell):
    """In time the percentiles 50, 90 and 99, of streams how fast they were as well; else the value and its spread."""
    unit = cell["unit"]
    if "p99" in cell:
        return "/".join(number(cell[mark], unit) for mark in ("p50", "p90", "p99"))
    more = f" {cell['gbit_s']:.1f}Gbit/s" if "gbit_s" in cell else f" ±{cell['spread'] / 2:.1f}%"
    return number(cell["value"], unit) + (more if cell["runs"] > 1 else "")


def by_cell(results):
    return {(cell["arm"], cell["metric"]): cell for cell in results}


def columns(results):
    there = {cell["arm"] for cell in results}
    return [name for name in arms.NAMES if name in there]


def sections(results):
    """Titles, and the metrics of each that there are."""
    there = {cell["metric"] for cell in results}
    rows = (("AES-128-GCM", OPERATIONS), ("AES-256-GCM", [metric.name for metric in plan.METRICS if metric.session == "aes256"]),
            ("applications, AES-128-GCM", plan.APPLICATIONS))
    for title, names in rows:
        left = [name for name in names if name in there]
        if left:
            yield title, left


def cheapest(cells, metric):
    """The arm among those that are a choice for a mesh."""
    found = [(cells[name, metric]["value"], name) for name in arms.NAMES
             if arms.find(name).relays and (name, metric) in cells]
    return min(found)[1] if len(found) > 1 else None


def growth_rows(results):
    cells = by_cell(results)
    for quick in (False, True):
        points = plan.growth_points(quick)
        if all(("kmtls", plan.growth_name(metric, kind, count)) in cells for metric in plan.GROWN for kind, count in points):
            return [(f"{kind} {count}", [cells["kmtls", plan.growth_name(metric, kind, count)] for metric in plan.GROWN])
                    for kind, count in points]
    return []


def table(results, colour=False):
    """Lines: a row for each metric, a column for each arm, values with their spread."""
    cells, names = by_cell(results), columns(results)
    lines = []
    for title, metrics in sections(results):
        lines.append(f"{title:<22} {'':<15}" + "".join(f"{name:>{WIDTH}}" for name in names))
        for metric in metrics:
            unit = next(cell["unit"] for cell in results if cell["metric"] == metric)
            best, row = cheapest(cells, metric), f"{metric:<22} {unit:<15}"
            for name in names:
                cell = cells.get((name, metric))
                text = text_of(cell) if cell else ""
                row += (GREEN if colour and name == best else "") + f"{text:>{WIDTH}}" + (PLAIN if colour and name == best else "")
            lines.append(row)
        lines.append("")
    rows = growth_rows(results)
    if rows:
        lines.append(f"{'kmtls, as it grows':<38}" + "".join(f"{metric:>{WIDTH}}" for metric in plan.GROWN))
        lines += [f"{title:<38}" + "".join(text_of(cell).rjust(WIDTH) for cell in row)
                  for title, row in rows] + [""]
    return lines


def gnuplot(script, output, **values):
    for kind in ("png", "svg"):
        values.update(terminal_is=kind, output_is=f"{output}.{kind}")
        words = "; ".join(f"{key}={value}" if isinstance(value, int) else f"{key}='{value}'" for key, value in values.items())
        done = subprocess.run(["gnuplot", "-e", words, f"{PLOTS}/{script}.gp"], capture_output=True, text=True, check=False)
        if done.returncode or not os.path.getsize(f"{output}.{kind}"):
            raise RuntimeError(f"gnuplot {script}: {done.stderr}")


def plot_costs(results, out, name, metrics, across):
    cells, files, titles = by_cell(results), [], []
    for metric in metrics:
        path = f"{out}/data/{metric}.dat"
        there = [arm for arm in arms.NAMES if (arm, metric) in cells]
        if not there:
            continue
        with open(path, "w", encoding="ascii") as file:
            for i, arm in enumerate(there):
                file.write(f'"{arm}" {cells[arm, metric]["value"]} {i} {COLOURS.get(arm, 0x4393C3)}\n')
        files.append(path)
        titles.append(f"{plan.BY_NAME[metric].title} ({cells[there[0], metric]['unit']})")
    if files:
        gnuplot("cost", f"{out}/{name}", panels=" ".join(files), titles="|".join(titles), columns=across)
        return [name]
    return []


def plot_growth(results, out):
    rows = growth_rows(results)
    if not rows:
        return []
    for kind in ("flows", "peers"):
        for i, metric in enumerate(plan.GROWN):
            values = [(int(title.split()[1]), row[i]["value"]) for title, row in rows if title.split()[0] == kind]
            with open(f"{out}/data/{kind}-{metric}.dat", "w", encoding="ascii") as file:
                file.writelines(f"{count} {value / values[0][1]:.4f}\n" for count, value in values)
    gnuplot("growth", f"{out}/growth", data=f"{out}/data", kinds="flows peers", names=" ".join(plan.GROWN))
    return ["growth"]


def plot_latencies(latencies, out):
    """latencies: {metric: {arm: percentiles}}."""
    if not latencies:
        return []
    common = [arm for arm in arms.NAMES if all(arm in found for found in latencies.values())]
    for metric, found in latencies.items():
        for arm in common:
            with open(f"{out}/data/{metric}-{arm}.cdf", "w", encoding="ascii") as file:
                file.writelines(f"{value} {i / 100}\n" for i, value in enumerate(found[arm]))
    gnuplot("latency", f"{out}/latency", data=f"{out}/data", metrics=" ".join(latencies), names=" ".join(common))
    return ["latency"]


def plot_all(results, latencies, out):
    """The names of the plots that were made."""
    os.makedirs(f"{out}/data", exist_ok=True)
    return (plot_costs(results, out, "cost", OPERATIONS, 4) + plot_costs(results, out, "applications", plan.APPLICATIONS, 4) +
            plot_growth(results, out) + plot_latencies(latencies, out))


def write_results(results, out):
    """One object a line, so that a difference between two runs can be read."""
    with open(f"{out}/results.json", "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(cell) for cell in results) + "\n]\n")
