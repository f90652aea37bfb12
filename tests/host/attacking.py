"""An attack inside a host, with the stand-in that replays a prompt as what samples."""

import threading

from lib_memstab.evidence.verify.sources import WebUISource
from lib_memstab.evidence.webui import WebUI
from lib_memstab.host.asking import Host
from lib_memstab.host.attack import read_attack
from lib_memstab.host.background import InterruptedByUser

REPLAYED, FREE, ORDINARY = "Wheel (16:10): nobody", "a plain prompt", "a dog, by day"
SAMPLERS = ("Euler", "Euler a", "DPM++ 2M")
BODY = {"prompts": f"{REPLAYED}\n{FREE}", "ordinary": ORDINARY, "seeds": 2, "attacks": ["CFG 1", "words reordered"]}
PLAIN, ATTEMPTS = 2 * 2 * 2, 2 * 2 * 2
"""Pictures of both prompts as they are, and of two attacks on one of them."""


class Machine:
    """What samples: `gate` holds the first picture back, `pictures` are those that may be taken."""

    def __init__(self, model):
        self.model, self.refusal, self.told, self.taken, self.pictures = model, None, 0, 0, 999
        self.gate, self.begun = threading.Event(), threading.Event()
        self.gate.set()

    def source(self, sampling, share):
        if self.refusal:
            raise self.refusal
        self.sampling, self.share = sampling, share
        self._source = WebUISource(WebUI(self.model.address, waits=()), sampling)
        return self

    def interrupt(self):
        self.told += 1

    def facts(self):
        return self._source.facts()

    def check(self, prompts):
        self._source.check(prompts)

    def shoot(self, changes, mode):
        self.begun.set()
        self.gate.wait(10)
        if self.taken == self.pictures:
            raise InterruptedByUser
        self.taken += 1
        return self._source.shoot(changes, mode)


def host(folders=()):
    return Host(SAMPLERS, ("Automatic", "Karras"), lambda: (64, 64), list(folders))


def asked(body=BODY, folders=(), **changes):
    return read_attack({**body, **changes}, host(folders))
