"""A verification inside a host, with the lab model as what samples."""

import threading
import time

from lib_memstab.host.asking import Host
from lib_memstab.host.background import InterruptedByUser
from lib_memstab.host.verification import read_verification

SEEDS = 2
"""Of each prompt."""


class Machine:
    """The lab model as a host has it: `gate` holds the first batch back, `batches` are those that may be taken."""

    batch = 2

    def __init__(self, lab):
        self.lab, self.refusal, self.told, self.taken, self.batches = lab, None, 0, 0, 99
        self.gate, self.begun = threading.Event(), threading.Event()
        self.gate.set()

    def vocabulary(self):
        return []

    def source(self, sampling, share):
        if self.refusal:
            raise self.refusal
        self.sampling, self.share = sampling, share
        return self

    def interrupt(self):
        self.told += 1

    def facts(self):
        return self.lab.facts()

    def check(self, prompts):
        self.lab.check(prompts)

    def take(self, prompts, seeds, mode):
        self.begun.set()
        self.gate.wait(10)
        if self.taken == self.batches:
            raise InterruptedByUser
        self.taken += 1
        return self.lab.take(prompts, seeds, mode)


def asked(body, folders=(), **changes):
    return read_verification({**body, **changes}, Host(["Euler"], ["Automatic"], lambda: (128, 128), folders))


def ended(verifier):
    for _ in range(3000):
        if not verifier.busy:
            return verifier.progress
        time.sleep(0.01)
    raise AssertionError("the verification did not end")
