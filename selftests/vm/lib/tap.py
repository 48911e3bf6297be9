# SPDX-License-Identifier: Apache-2.0
"""Cases, checks and TAP output of the VM tests.

A case is a function that takes the bed and returns when all its facts hold. It is registered in the
order in which its module is read; a failed check ends it. Skipping is not passing: a missing program
is a failure, only what cannot be asked of this machine (see Skip) is skipped.
"""
import collections
import signal
import time
import traceback

Case = collections.namedtuple("Case", "name function title mesh plain timeout kernel")
CASES = []
KERNELS = ("6.1", "6.12", "7.2")  # the matrix, as vmtest/kernels calls them


class Failure(AssertionError):
    """A fact that does not hold."""


class Skip(Exception):
    """Cannot be asked of this machine, for a reason that is no fault."""


def case(title, mesh=False, plain=False, timeout=120, kernel=None):
    """Registers a case. mesh: only with daemons; plain: only without. kernel: what it asks does not depend on
    the kernel, so where all cases run this one of the matrix is enough."""
    if kernel is not None and kernel not in KERNELS:
        raise ValueError(f"kernel {kernel!r} is none of {', '.join(KERNELS)}")

    def register(function):
        module = function.__module__.rsplit(".", 1)[-1]
        name = f"{module}.{function.__name__}"
        CASES.append(Case(name, function, title, mesh, plain, timeout, kernel))
        return function

    return register


def left_to(item, release):
    """The kernel of the matrix that has the case instead of the running one; None: it belongs here as well.
    Where no kernel of the matrix runs, nothing is left to another."""
    running = ".".join(release.split(".")[:2])
    return item.kernel if running in KERNELS and item.kernel != running else None


def check(condition, what):
    if not condition:
        raise Failure(what)


def short(value):
    text = repr(value)
    return text if len(text) < 400 else f"{text[:300]} ... {text[-60:]} ({len(text)} characters)"


def equal(actual, expected, what):
    if actual != expected:
        raise Failure(f"{what}: {short(actual)}, not {short(expected)}")


def contains(text, part, what):
    if part not in text:
        raise Failure(f"{what}: {part!r} is not in {text[-500:]!r}")


def until(probe, what, seconds=20, pause=0.1):
    """Waits until probe() returns something true, and returns it. A Failure inside counts as not yet."""
    end = time.monotonic() + seconds
    last = None
    while True:
        try:
            value = probe()
            if value:
                return value
        except Failure as failure:
            last = failure
        if time.monotonic() > end:
            raise Failure(f"not within {seconds} s: {what}" + (f" ({last})" if last else ""))
        time.sleep(pause)


def not_reached(listener, what="the application was connected to"):
    """Nobody connects to the listener, which is closed."""
    listener.settimeout(0.3)
    try:
        listener.accept()
    except TimeoutError:
        listener.close()
        return
    raise Failure(what)


class Deadline(BaseException):
    """The case's time is over. No Exception, so that no case's own handlers take it."""


def _alarm(_signal, _frame):
    raise Deadline()


class Report:
    """Writes TAP: a line for each case, diagnostics as comments, the plan at the end."""

    def __init__(self):
        self.count = 0
        self.failed = []
        self.skipped = []
        self.seconds = {}
        signal.signal(signal.SIGALRM, _alarm)

    def note(self, text):
        for line in str(text).rstrip("\n").split("\n"):
            print("# " + line, flush=True)

    def _line(self, ok, title, directive=""):
        self.count += 1
        print(("ok" if ok else "not ok"), self.count, "-", title + directive, flush=True)

    def run(self, item, bed, after=None):
        """Runs one case; true if it passed."""
        start = time.monotonic()
        title = f"{item.name}: {item.title}"
        trouble = None
        try:
            signal.alarm(item.timeout)
            try:
                said = item.function(bed)
            finally:
                signal.alarm(0)
        except Skip as reason:
            self.skipped.append(item.name)
            self._line(True, title, f" # SKIP {reason}")
            return True
        except Failure as failure:
            trouble = str(failure)
        except Deadline:
            trouble = f"not finished after {item.timeout} s"
        except Exception:  # pylint: disable=broad-except
            trouble = traceback.format_exc()
        self.seconds[item.name] = time.monotonic() - start
        self._line(trouble is None, title)
        if trouble is None:
            self.note(f"{self.seconds[item.name]:.1f} s" + (f"; {said}" if said else ""))
        else:
            self.failed.append(item.name)
            self.note(trouble)
            if after:
                self.note(after())
        return trouble is None

    def finish(self):
        print(f"1..{self.count}", flush=True)
        if self.failed:
            self.note("failed: " + ", ".join(self.failed))
        slowest = sorted(self.seconds, key=self.seconds.get, reverse=True)[:10]
        self.note("slowest: " + ", ".join(f"{name} {self.seconds[name]:.0f} s" for name in slowest))
        return not self.failed
