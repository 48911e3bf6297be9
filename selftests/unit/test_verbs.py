#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Wrong input to every verb of kmtls, of those that its own help names: what any verb must refuse, made from
the help, and what only this verb can be told, a row at least. What needs a daemon to be found wrong is in the
VM tests of the verbs; here there is none, and nothing may have been asked of one. TAP, a line for each verb.

Usage: selftests/unit/test_verbs.py KMTLS
"""
import re
import subprocess
import sys

WHO = "must be any, a SPIFFE ID, namespace:TRUST-DOMAIN/NAME or trust-domain:NAME"
NUMBER = "must be a number from 1 to 65535"
BITS = "10.0.0.1/8: bits are set beyond the prefix length (10.0.0.0/8?)"
MODES = "must be off, permissive or strict"
POD = ("n", "--netns", "/proc/self/ns/net", "--cgroup", "/sys/fs/cgroup")

# Verb -> words after it, and what is said of them. A verb of the help that is not here fails the test; rows
# that a verb shares with all others (see shared()) are no reason to leave it out.
WRONG = {
    "pod add": (((), "NAME: is missing"), (("n",), "--netns: is missing"), (POD[:3], "--cgroup: is missing"),
                (POD, "--id: is missing"), ((*POD, "--id", "spiffe://td/a", "--connect", "now"),
                                            "--connect: now: must be held or at-once"),
                ((*POD, "--id", "spiffe://td/a", "--accel", "yes"), "--accel: yes: must be off, on or auto"),
                ((*POD, "--id", "spiffe://td/a", "--accel", ""), "--accel: a value is missing"),
                ((*POD, "--id", "spiffe://td/a", "--accel"), "--accel: a value is missing"),
                ((*POD, "--id", "spiffe://td/a", "--accel", "on", "--accel", "off"), "--accel: is given twice"),
                (("n", "--netns", "/nonexistent", *POD[3:], "--id", "spiffe://td/a"),
                 "--netns /nonexistent: No such file or directory")),
    "pod del": (((), "NAME: is missing"), (("",), "NAME: must not be empty")),
    "pod list": ((("--pod", "a"), "--pod: unknown option"),),
    "peer add": (((), "PREFIX: is missing"), (("10.0.0.1/8", "--bypass"), BITS),
                 (("host", "--bypass"), "host: must be an IP address or ADDRESS/LENGTH"),
                 (("10.0.0.0/33", "--bypass"), "10.0.0.0/33: prefix length must be 0 to 32"),
                 (("10.0.0.1", "--bypass", "--port", "0"), f"--port 0: {NUMBER}"),
                 (("10.0.0.1",), "--id ID, --trust-domain TD or --bypass: exactly one of them is needed")),
    "peer del": (((), "PREFIX: is missing"), (("10.0.0.1/8",), BITS),
                 (("host",), "host: must be an IP address or ADDRESS/LENGTH")),
    "peer load": (((), "FILE: is missing"), (("/nonexistent",), "/nonexistent: No such file or directory")),
    "peer list": ((("10.0.0.1",), "10.0.0.1: unexpected argument"),),
    "authz add": (((), "ACTION: is missing"), (("permit", "any", "any"), "permit: must be allow, deny or dry-run"),
                  (("allow",), "SOURCE: is missing"), (("allow", "any"), "DESTINATION: is missing"),
                  (("allow", "x", "any"), f"x: {WHO}"), (("allow", "any", "any", "--port", "65536"), f"--port 65536: {NUMBER}")),
    "authz del": (((), "SOURCE: is missing"), (("any",), "DESTINATION: is missing"), (("any", "nobody"), f"nobody: {WHO}")),
    "authz list": ((("any",), "any: unexpected argument"),),
    "authz default": ((("maybe",), "maybe: must be allow or deny"),),
    "authz test": (((), "SOURCE-ID: is missing"), (("a", "b", "1"), "SOURCE-ID a: it does not begin with spiffe://"),
                   (("spiffe://td/a", "spiffe://td/b"), "PORT: is missing"),
                   (("spiffe://td/a", "spiffe://td/b", "0"), f"PORT 0: {NUMBER}")),
    "policy show": ((("a", "--port", "x"), f"--port x: {NUMBER}"),),
    "policy set": (((), "MODE: is missing"), (("on",), f"on: {MODES}"),
                   (("off", "--namespace", "n", "--port", "1"), "--port: cannot be together with --namespace")),
    "policy unset": (((), "the mesh always has a mode, which can only be set to another; or --namespace, --pod or --port is "
                          "missing"), (("--pod", "a", "--namespace", "n"), "--namespace: cannot be together with --pod")),
    "policy dry-run": (((), "MODE: is missing"), (("on",), f"on: {MODES}"), (("off", "--now"), "--now: unknown option")),
    "apply": (((), "-f FILE: is missing"), (("-f", "/nonexistent"), "/nonexistent: No such file or directory")),
    "explain": (((), "SRC: is missing"), (("a",), "DST: is missing")),
    "flows": ((("--peer", "10.0.0.1/8"), BITS), (("--id", "a"), "--id a: it does not begin with spiffe://"),
              (("--port", "0"), f"--port 0: {NUMBER}"), (("--interval", "1"), "--interval: only with --watch")),
    "udp": ((("--peer", "10.0.0.1/8"), BITS),),
    "monitor": ((("--reason", "because"), "--reason because: must be the name of a reason code"),),
    "top": ((("-n", "0"), "-n 0: must be a number from 1 to 1000000"),
            (("-n", "1", "--once"), "--once: cannot be together with -n")),
    "identity": ((("no-such",), "no-such: unexpected argument"),),
    "identity renew": ((("",), "POD: must not be empty"),),
    "identity ca": (((), "show: is missing"), (("hide",), "hide: unknown action, there is: show")),
    "metrics": ((("now",), "now: unexpected argument"),),
    "settings get": ((("log_level", "x"), "x: unexpected argument"),),
    "settings set": (((), "NAME: is missing"), (("log_level",), "VALUE: is missing")),
    "dump": ((("a", "b"), "b: unexpected argument"),),
    "check": ((("--bpf-dir", "pins"), "--bpf-dir pins: must be an absolute path"),),
    "status": ((("all",), "all: unexpected argument"),),
    "upgrade": ((("--program", "/nonexistent"), "--program /nonexistent: No such file or directory"),),
    "log": (((), "LEVEL: is missing"), (("loud",), "loud: must be error, warning, info or debug")),
    "hash": (((), "TEXT: is missing"), (("",), "TEXT: must not be empty")),
}
EXIT_USAGE = 2


def verbs(program):
    """(verb, or verb and action; its usage) of each line of the help."""
    done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=30, check=True)
    for line in re.findall(r"^  kmtls (.*)$", done.stdout, re.M):
        verb, _, rest = line.partition(" ")
        action = re.match(r"[a-z][a-z-]*(?= |$)", rest)
        yield (f"{verb} {action.group()}", rest[action.end():]) if action else (verb, rest)


def required(usage):
    """The options whose value usage names, and how many words it takes at most."""
    options = [first or second for first, second in
               re.findall(r"(?<![\w-])(?:(--[a-z-]+)|(-[a-z])) (?=[A-Z(]|held)", usage)]
    rest = re.sub(r"(?<![\w-])--?[a-z-]+ (\([^)]*\)|\S+?)(?=[\s\]|)]|$)", "", re.sub(r"(?<= )-\|?", "", usage))
    words = re.findall(r"\([a-z|-]+\)|\[[a-z|]+\]|[A-Z][A-Z-]+|^ [a-z]+(?= |$)", re.sub(r"\[:PORT\]|\|-", "", rest))
    return options, len(words)


def shared(usage):
    """What every verb must refuse."""
    options, words = required(usage)
    yield ("--no-such-option",), "--no-such-option: unknown option"
    for option in options:
        yield (option,), f"{option}: a value is missing"
    yield (*["w"] * words, "one-too-many"), "one-too-many: unexpected argument"


def faults(program, verb, rows):
    """Of (words after it, what must be said of them), those where it is not. The socket is where nobody is."""
    for words, said in rows:
        command = [*verb.split(), *words]
        done = subprocess.run([program, "--socket", "/nonexistent/control.sock", *command], capture_output=True, text=True,
                              timeout=60, check=False)
        expected = (EXIT_USAGE, "", f"kmtls{' ' if verb else ''}{verb}: {said}\n")
        if (done.returncode, done.stdout, done.stderr) != expected:
            yield f"kmtls {' '.join(command)}: {(done.returncode, done.stdout, done.stderr)}, not {expected}"


def tests(program, helped):
    """(name, its faults)"""
    for verb, usage in helped.items():
        if verb in WRONG:
            yield verb, faults(program, verb, (*shared(usage), *WRONG[verb]))
        else:
            yield verb, [f"{verb} is a verb of the help and has no rows of wrong input"]
    yield "no verb is gone", [f"{verb} has rows of wrong input and is no verb of the help" for verb in WRONG
                              if verb not in helped]
    actions = {}
    for verb in helped:
        actions.setdefault(verb.split()[0], []).extend(verb.split()[1:])
    for verb, of_verb in actions.items():
        if of_verb and verb not in helped:  # or it is complete without one
            there = ", ".join(of_verb)
            yield f"actions of {verb}", faults(program, verb, (
                ((), f"an action is missing: {there}"), (("no-such",), f"no-such: unknown action, there are: {there}")))
    yield "no such verb", faults(program, "", ((("no-such",), "no-such: unknown verb, see kmtls --help"),
                                               (("--no-such", "status"), "--no-such: unknown option, see kmtls --help")))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip().rpartition("\n\n")[2])
    bad = number = 0
    for number, (name, found) in enumerate(tests(sys.argv[1], dict(verbs(sys.argv[1]))), 1):
        found = list(found)
        bad += bool(found)
        print(f"{'not ok' if found else 'ok'} {number} - {name}", *found, sep="\n# ", flush=True)
    print(f"1..{number}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
