# SPDX-License-Identifier: Apache-2.0
"""Plaintext, nothing in between: what the applications and the network cost by themselves."""
from . import Arm
from ..bed import ADDRESS


class Direct(Arm):
    name = "direct"
    title = "plaintext, nothing in between"
    tls = False
    relays = False

    def up(self, suite, resume):
        pass

    def address(self, port):
        return ADDRESS["b"], port


ARM = Direct
