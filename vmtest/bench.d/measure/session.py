# SPDX-License-Identifier: Apache-2.0
"""An arm that is up, with the applications behind it."""
from . import applications, arms
from .bed import PORTS, wait_port


class Session:
    def __init__(self, bed, name, suite, resume, clock=None, sizes=None):
        self.bed, self.clock, self.sizes = bed, clock, sizes
        self.arm = arms.find(name)(bed)
        self.suite, self.resume = suite, resume
        self.services = {}

    def __enter__(self):
        try:
            self.arm.up(self.suite, self.resume)
            self.start("load")
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self, service):
        if service not in self.services:
            self.services[service] = applications.STARTERS[service](self)
            wait_port("b", PORTS[service], self.services[service])

    def __exit__(self, *_):
        for process in self.services.values():
            self.bed.stop(process)
        self.services.clear()
        self.arm.down()
