# SPDX-License-Identifier: Apache-2.0
"""kmtls: a daemon of each node, strict, one event loop each."""
import os
import shutil
import subprocess

from . import Arm
from ..bed import ADDRESS, SUITES, Trouble, build_dir, run, until

CONFIG = """
node: bench-{node}
bpf_dir: {pins}/{node}
run_dir: {dir}/{node}
control_socket: {dir}/{node}/control.sock
cgroup: {cgroup}/{node}
workers: {loops}
mode: strict
handshake_timeout: 60s
resumption: {resumption}
resumption_symmetric: {symmetric}
log_level: info
identity:
  trust_domain: example.org
  enabled: own
  backends:
    - name: own
      type: builtin
      root_file: {dir}/root.pem
"""
PINS = "/sys/fs/bpf/kmtls-bench"


class Kmtls(Arm):
    name = "kmtls"
    title = "kmtls"
    packages = ("libssl3",)
    pod_options = ()
    kernel_tls = True
    symmetric = True
    loops, resume = 1, False

    def up(self, suite, resume):
        self.resume = resume
        # The daemon has no setting for the order of suites, and takes the first.
        environment = {}
        if suite != "aes128":
            environment = {"LD_PRELOAD": self.bed.dir + "/suites.so", "BENCH_SUITE": SUITES[suite]}
        os.makedirs(PINS, exist_ok=True)
        for node in "12":
            self._start(node, environment)
        peers = "".join(f"{ADDRESS[pod]}/32 --id {self.identity(pod)}\n" for pod in "ab")
        with open(self.bed.dir + "/peers", "w", encoding="ascii") as file:
            file.write(peers)
        for node, pod in ("1a", "2b"):
            self.kmtls(node, "pod", "add", pod, "--netns", "/run/netns/kb-" + pod, "--cgroup", f"{self.bed.cgroup}/{pod}",
                       "--id", self.identity(pod), *self.pod_options)
            self.kmtls(node, "peer", "load", self.bed.dir + "/peers")
            self.kmtls(node, "log", "error")

    def _configure(self, node):
        with open(f"{self.bed.dir}/{node}.yaml", "w", encoding="ascii") as file:
            file.write(CONFIG.format(node=node, pins=PINS, dir=self.bed.dir, cgroup=self.bed.cgroup, loops=self.loops,
                                     resumption="1h" if self.resume else "0",
                                     symmetric="true" if self.resume == "symmetric" else "false"))

    def set_loops(self, count):
        """Event loops of each daemon."""
        if count == self.loops:
            return
        self.loops = count
        for node in "12":
            self._configure(node)
            self.kmtls(node, "upgrade")

    def _start(self, node, environment):
        os.makedirs(f"{self.bed.dir}/{node}", 0o700, exist_ok=True)
        config, log = f"{self.bed.dir}/{node}.yaml", f"{self.bed.dir}/{node}.log"
        self._configure(node)
        with open(log, "w", encoding="ascii"):
            pass
        process = self.bed.spawn(node, build_dir() + "/kmtlsd", "--config", config, env=environment, output=log)
        self.running.append(process)

        def ready():
            with open(log, encoding="utf-8", errors="replace") as file:
                text = file.read()
            if process.poll() is not None:
                raise Trouble(f"the daemon of node {node} ended: {text[-800:]}")
            return any(line.rstrip().endswith(("msg=ready", 'msg="ready"')) or "msg=ready " in line or 'msg="ready" ' in line
                       for line in text.splitlines())

        until(ready, f"the daemon of node {node} is ready")

    @staticmethod
    def identity(pod):
        return f"spiffe://example.org/ns/bench/sa/{pod}"

    def kmtls(self, node, *arguments):
        return run(build_dir() + "/kmtls", "--socket", f"{self.bed.dir}/{node}/control.sock", *arguments, timeout=3600)

    def address(self, port):
        return ADDRESS["b"], port

    def down(self):
        super().down()
        for node in "12":
            if os.path.exists(f"{self.bed.dir}/{node}.yaml"):
                subprocess.run([build_dir() + "/kmtlsd", "--uninstall", "--config", f"{self.bed.dir}/{node}.yaml"],
                               capture_output=True, check=True, timeout=600)
            shutil.rmtree(f"{self.bed.dir}/{node}", ignore_errors=True)  # it remembers pods there
        shutil.rmtree(PINS, ignore_errors=True)


ARM = Kmtls
