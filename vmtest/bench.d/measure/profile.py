# SPDX-License-Identifier: Apache-2.0
"""Of vmtest/profile: counts of blocks become a table. Below a directory are: counts (by the plugin: address,
instructions, how often executed), kallsyms, maps.PID (/proc/PID/maps), load.json (what benchload said)."""
import bisect
import collections
import glob
import json
import os
import re
import subprocess

from . import report
from .groups import group_of

# The guest's clock also runs while the marks are near: a part of what is measured that may be missing here.
TOLERANCE = 0.05
KERNEL = 1 << 63


class Symbols:
    """Names of addresses: of each the last symbol that begins at or below it."""

    def __init__(self, pairs):
        ordered = sorted(dict(pairs).items())
        self.addresses = [address for address, _ in ordered]
        self.names = [name for _, name in ordered]

    def find(self, address):
        at = bisect.bisect_right(self.addresses, address) - 1
        return (self.names[at], self.addresses[at]) if at >= 0 else (None, None)


def kernel_symbols(lines):
    """Names with their modules: `tls_sw_recvmsg [tls]`. Of several at one address a global one counts."""
    rows = sorted(map(str.split, lines), key=lambda words: words[1].isupper())
    return Symbols((int(words[0], 16), " ".join([words[2], *words[3:4]])) for words in rows if words[1] in "tTwW")


def places(lines, names):
    """First address and end of functions in kallsyms."""
    symbols = kernel_symbols(lines)
    found = dict(zip(symbols.names, zip(symbols.addresses, symbols.addresses[1:])))
    return [found[name] for name in names]


def segments(path):
    """Of an ELF file: offset in the file, size, address."""
    text = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True, check=False).stdout
    found = re.findall(r"^  LOAD +0x(\w+) 0x(\w+) 0x\w+ 0x(\w+)", text, re.M)
    return [(int(offset, 16), int(size, 16), int(address, 16)) for offset, address, size in found]


def file_symbols(path):
    """Of a program or library: those it has, or, stripped, those that it exports."""
    for options in (["-n"], ["-nD"]):
        text = subprocess.run(["nm", "--defined-only", *options, path], capture_output=True, text=True, check=False).stdout
        pairs = [(int(words[0], 16), words[2].split("@")[0]) for words in map(str.split, text.splitlines())
                 if len(words) == 3 and words[1] in "tTwWi"]
        if pairs:
            return Symbols(pairs)
    return Symbols([])


class Programs:
    """Addresses of user space. Programs are at random places, so no two have theirs at one address."""

    def __init__(self, directory):
        self.files, found = {}, {}
        for path in glob.glob(directory + "/maps.*"):
            with open(path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    words = line.split(None, 5)
                    if "x" in words[1] and len(words) == 6:
                        begin, end = (int(part, 16) for part in words[0].split("-"))
                        found[begin] = (end, int(words[2], 16), words[5].strip())
        self.begins = sorted(found)
        self.mappings = [found[begin] for begin in self.begins]

    def find(self, address):
        """Function, file."""
        at = bisect.bisect_right(self.begins, address) - 1
        if at < 0 or address >= self.mappings[at][0]:
            return "?", "?"
        _, offset, path = self.mappings[at]
        name = os.path.basename(path)
        if not path.startswith("/"):
            return name, name
        if path not in self.files:
            self.files[path] = segments(path), file_symbols(path)
        loads, symbols = self.files[path]
        place = address - self.begins[at] + offset
        for begin, size, target in loads:
            if begin <= place < begin + size:
                return symbols.find(place - begin + target)[0] or "?", name
        return "?", name


def operations(directory):
    """How many there were between marks, of all runs."""
    with open(directory + "/load.json", encoding="ascii") as file:
        return sum(run["count"] for run in json.load(file)["runs"])


class Where:
    """Function and file of an address; the kernel's and its modules' file is `kernel`."""

    def __init__(self, directory):
        with open(directory + "/kallsyms", encoding="ascii", errors="replace") as file:
            self.kernel = kernel_symbols(file)
        self.programs = Programs(directory)

    def find(self, address):
        if address < KERNEL:
            return self.programs.find(address)
        return (self.kernel.find(address)[0] or "?", "kernel")

    def is_first(self, address):
        return address >= KERNEL and self.kernel.find(address)[1] == address


def read_counts(directory, where):
    """Instructions and calls by function, and both by callee and caller."""
    instructions, calls, callers = collections.Counter(), collections.Counter(), {}
    with open(directory + "/counts", encoding="ascii") as file:
        for words in map(str.split, file):
            address = int(words[0], 16)
            place = where.find(address)
            if len(words) == 3:
                instructions[place] += int(words[1]) * int(words[2])
                if where.is_first(address):
                    calls[place] += int(words[2])
            else:
                sums = callers.setdefault(place[0], {}).setdefault(where.find(int(words[1], 16))[0], [0, 0])
                sums[0] += int(words[2])
                sums[1] += int(words[3])
    return instructions, calls, callers


def read(directory, arm, metric, kernel, cell):
    """The profile: what is written to profile.json. Instructions and calls are of one operation, or byte."""
    instructions, calls, callers = read_counts(directory, Where(directory))
    count = operations(directory)
    functions = [{"function": name, "file": file, "group": group_of(name, file), "instructions": round(value / count, 5),
                  **({"calls": round(calls[name, file] / count, 5)} if (name, file) in calls else {})}
                 for (name, file), value in instructions.most_common()]
    groups = collections.Counter()
    for function in functions:
        groups[function["group"]] += function["instructions"]
    return {"arm": arm, "metric": metric, "kernel": kernel, "unit": cell["unit"], "measured": cell["value"],
            "total": round(sum(instructions.values()) / count, 5), "operations": count,
            "groups": {name: round(value, 5) for name, value in groups.most_common()}, "functions": functions,
            "callers": {callee: [{"function": name, "instructions": round(sums[0] / count, 5), "calls": round(sums[1] / count, 5)}
                                 for name, sums in sorted(by.items(), key=lambda item: -item[1][0])]
                        for callee, by in callers.items()}}


def difference(found):
    """Between what was counted here and what the cell says, as a part of it."""
    return abs(found["total"] - found["measured"]) / found["measured"]


def amount(value, found):
    return f"{value:.4f}" if "/" in found["unit"] else f"{value:,.0f}"


def table(found, top):
    """What is printed: groups, then functions."""
    total, unit = found["total"], found["unit"]
    lines = [f"{found['arm']} {found['metric']}, kernel {found['kernel']}: {report.number(total, unit)} {unit} in functions, "
             f"{report.number(found['measured'], unit)} measured, {found['operations']} operations", ""]
    lines += [f"{'group':<28} {unit:>16} {'share':>7}"]
    lines += [f"{name:<28} {amount(value, found):>16} {value / total:>7.1%}" for name, value in found["groups"].items()]
    lines += ["", f"{'function':<44} {'group':<28} {unit:>16} {'share':>7} {'calls':>10}"]
    for function in found["functions"][:top]:
        where = "" if function["file"] == "kernel" else f" [{function['file']}]"
        calls = f"{function['calls']:.4g}" if "calls" in function else ""
        lines.append(f"{(function['function'] + where)[:44]:<44} {function['group']:<28} "
                     f"{amount(function['instructions'], found):>16} {function['instructions'] / total:>7.1%} {calls:>10}")
    for callee, callers in found["callers"].items():
        lines += ["", f"{callee + ' called by':<44} {unit:>16} {'calls':>10}"]
        lines += [f"{caller['function'][:44]:<44} {amount(caller['instructions'], found):>16} {caller['calls']:>10.4g}" for caller in callers[:top]]
    return "\n".join(lines)
