# SPDX-License-Identifier: Apache-2.0
"""kmtls with both local legs short-circuited by sk_msg, where the daemon has that option."""
import os
import subprocess

from .kmtls import Kmtls
from ..bed import build_dir


class KmtlsAccel(Kmtls):
    name = "kmtls-accel"
    title = "kmtls with sk_msg"
    pod_options = ("--accel", "on")
    symmetric = False  # it is the same

    @classmethod
    def unavailable(cls):
        if not os.path.exists(build_dir() + "/kmtls"):
            return "kmtls is not built: run make"
        done = subprocess.run([build_dir() + "/kmtls", "--socket", "/nonexistent", "pod", "add", "x", "--accel", "on"],
                              capture_output=True, text=True, check=False, timeout=60)
        if "--accel: unknown option" in done.stderr:
            return "kmtls pod add has no option --accel"
        return None


ARM = KmtlsAccel
