# SPDX-License-Identifier: Apache-2.0
"""The service file, under a systemd of its own: process 1 of a PID namespace, in its own cgroup.

It sees the units of this test and no others. What is installed is what `make install` installs.
"""
import glob
import os
import re
import shutil
import signal
import subprocess
import time

from lib.tap import Skip, case, check, equal, until

SYSTEMD = "/lib/systemd/systemd"
CONFIG = """node: service
bpf_dir: /sys/fs/bpf/kmtls-service
max_flows: 64
identity:
  trust_domain: example.org
  enabled: own
  backends: [{name: own, type: builtin}]
"""
# What the file leaves to the machine: here nothing is to be done for it.
UNITS = {
    "sysinit.target": "[Unit]\nDefaultDependencies=no\n",
    "basic.target": "[Unit]\nDefaultDependencies=no\n",
    "shutdown.target": "[Unit]\nDefaultDependencies=no\n",
    "test.target": "[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\n",
    # Soon enough to be seen: a keeper that is not heard of for this long is killed.
    "kmtlsd.service.d/test.conf": "[Service]\nWatchdogSec=4s\n",
}


class Manager:
    """systemd, and the service it manages."""

    def __init__(self, bed):
        self.cgroup = os.path.dirname(bed.env["cgroup"]) + "/kmtls-manager"
        self.unit = self.cgroup + "/system.slice/kmtlsd.service"
        units = bed.dir + "/units"
        for name, text in UNITS.items():
            os.makedirs(os.path.dirname(f"{units}/{name}"), exist_ok=True)
            with open(f"{units}/{name}", "w", encoding="ascii") as file:
                file.write(text)
        shutil.copy("/usr/lib/systemd/system/kmtlsd.service", units)
        os.makedirs(self.cgroup, exist_ok=True)
        self.process = subprocess.Popen(
            ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec unshare --pid --fork --kill-child --mount --mount-proc '
             "env -i container=other SYSTEMD_UNIT_PATH=\"$1\" SYSTEMD_LOG_TARGET=null PATH=\"$PATH\" "
             '"$2" --system --unit=test.target', self.cgroup, units, SYSTEMD],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: self.children(self.process.pid), "systemd is there", 10)
        self.pid = self.children(self.process.pid)[0]
        # Its parent is not of its namespace: systemd cannot move it out of the way of its controllers.
        with open(os.path.dirname(self.cgroup) + "/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(self.process.pid))
        until(lambda: os.path.exists("/run/systemd/private"), "systemd listens", 30)
        until(lambda: self.show("ActiveState", "test.target") == "active", "systemd is up", 30)

    @staticmethod
    def children(pid):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]

    def systemctl(self, *args, status=0):
        done = subprocess.run(["nsenter", "-t", str(self.pid), "-p", "-m", "systemctl", *args], capture_output=True,
                              text=True, timeout=60, check=False)
        check(done.returncode == status,
              f"systemctl {' '.join(args)}: status {done.returncode} {done.stdout}{done.stderr}")
        return done.stdout

    def show(self, name, unit="kmtlsd.service"):
        return self.systemctl("show", "--value", "-p", name, unit).strip()

    def keeper(self):
        """Its number out here, by the one it has in there."""
        wanted = self.show("MainPID")
        for pid in self.processes():
            with open(f"/proc/{pid}/status", encoding="ascii") as file:
                if re.search(r"^NSpid:.*\t(\d+)$", file.read(), re.M).group(1) == wanted:
                    return pid
        return None

    def processes(self):
        pids = []
        for path in glob.glob(f"{self.unit}/**/cgroup.procs", recursive=True):
            with open(path, encoding="ascii") as file:
                pids += [int(word) for word in file.read().split()]
        return pids

    def worker(self):
        keeper = self.keeper()
        found = self.children(keeper) if keeper else []
        return found[0] if found else None

    def serves(self, bed):
        """Until the worker answers: its number."""

        def answers():
            done = subprocess.run([bed.build + "/kmtls", "status"], capture_output=True, timeout=30, check=False)
            return done.returncode == 0 and self.worker()

        return until(answers, "the worker answers", 30)

    def equal_state(self, restarts, what):
        equal([self.show(name) for name in ("ActiveState", "SubState", "Result", "NRestarts")],
              ["active", "running", "success", str(restarts)], f"state {what}")

    def end(self):
        self.process.kill()
        self.process.wait(10)
        with open(self.cgroup + "/cgroup.kill", "w", encoding="ascii") as file:
            file.write("1")

        def removed():
            for directory in sorted((base for base, _, _ in os.walk(self.cgroup)), key=len, reverse=True):
                try:
                    os.rmdir(directory)
                except OSError:
                    return False
            return True

        until(removed, "its cgroups are empty", 10)


def install(bed):
    if not os.path.exists("/run/vmtest"):
        raise Skip("installs into /usr and starts a systemd, so only in a guest")
    check(os.path.exists(SYSTEMD), f"{SYSTEMD} is missing: run scripts/setup --test")
    subprocess.run(["cp", "-a", bed.data + "/installed/.", "/"], check=True)
    os.makedirs("/etc/kmtls", exist_ok=True)
    with open("/etc/kmtls/kmtlsd.yaml", "w", encoding="ascii") as file:
        file.write(CONFIG)


@case("the service file has no fault that systemd-analyze knows", mesh=True, kernel="6.12")
def verified(bed):
    install(bed)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "/usr/lib/systemd/system/kmtlsd.service"],
                          capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "kmtls" in line]
    equal((done.returncode, said), (0, []), "what it says")


@case("systemd starts, watches, reloads and stops the daemon; only a keeper's end is a restart", mesh=True, timeout=150,
      kernel="6.12")
def managed(bed):
    install(bed)
    manager = Manager(bed)
    try:
        run_service(bed, manager)
    finally:
        manager.end()
        subprocess.run([bed.build + "/kmtlsd", "--uninstall", "--config", "/etc/kmtls/kmtlsd.yaml"], check=True)
        shutil.rmtree("/run/kmtls")


def run_service(bed, manager):
    manager.systemctl("start", "kmtlsd")
    manager.equal_state(0, "when systemctl start returns")
    keeper, worker = manager.keeper(), manager.serves(bed)
    equal(manager.show("StatusText"), "serving", "status")
    with open(f"/proc/{keeper}/oom_score_adj", encoding="ascii") as file:
        equal(file.read().strip(), "-1000", "the keeper's oom_score_adj")

    os.kill(worker, signal.SIGKILL)
    until(lambda: manager.worker() not in (None, worker), "another worker", 20)
    worker = manager.serves(bed)
    equal(manager.keeper(), keeper, "the keeper after the worker's death")

    starve(bed, manager, worker)
    equal(manager.keeper(), keeper, "the keeper after the worker was killed for memory")
    manager.equal_state(0, "after the worker was killed for memory")

    manager.systemctl("reload", "kmtlsd")
    manager.equal_state(0, "after a reload")
    successor = manager.keeper()
    check(successor and successor != keeper, f"the keeper after a reload is {successor}, not another than {keeper}")
    check(not os.path.exists(f"/proc/{keeper}"), "the old keeper is gone")
    manager.serves(bed)
    time.sleep(6)
    manager.equal_state(0, "longer after the reload than the watchdog waits")
    equal(manager.keeper(), successor, "the keeper then")

    os.kill(successor, signal.SIGKILL)
    until(lambda: manager.show("NRestarts") == "1" and manager.show("ActiveState") == "active", "it is restarted", 30)
    manager.serves(bed)
    os.kill(manager.keeper(), signal.SIGSTOP)
    until(lambda: manager.show("NRestarts") == "2" and manager.show("ActiveState") == "active",
          "a keeper that stands still is replaced", 40)
    manager.serves(bed)

    start = time.monotonic()
    manager.systemctl("stop", "kmtlsd")
    check(time.monotonic() - start < 15, "stopping takes as long as killing")
    equal([manager.show("ActiveState"), manager.show("Result")], ["inactive", "success"], "the end")
    equal(manager.processes(), [], "processes left")
    check(os.path.isdir("/run/kmtls"), "its run directory stays")
    check(os.listdir("/sys/fs/bpf/kmtls-service"), "its pins stay")


def killed_for_memory(manager):
    with open(manager.unit + "/memory.events", encoding="ascii") as file:
        return int(re.search(r"^oom_kill (\d+)$", file.read(), re.M).group(1))


def starve(bed, manager, worker):
    """So little memory that the kernel kills what it may: not the keeper."""

    def limit(text):
        with open(manager.unit + "/memory.max", "w", encoding="ascii") as file:
            file.write(text)

    for directory in (os.path.dirname(manager.cgroup), manager.cgroup, os.path.dirname(manager.unit)):
        with open(directory + "/cgroup.subtree_control", "w", encoding="ascii") as file:
            file.write("+memory")
    with open(manager.unit + "/memory.current", encoding="ascii") as file:
        current = int(file.read())
    while not killed_for_memory(manager):
        current = current * 9 // 10
        check(current > 1 << 20, "the kernel kills nobody")
        limit(str(current))
    limit("max")
    until(lambda: manager.worker() not in (None, worker), "another worker", 20)
    manager.serves(bed)
    time.sleep(1)
