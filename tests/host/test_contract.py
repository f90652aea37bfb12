"""The stand-in does what the real WebUI does: see `tests/e2e/test_contract.py`, which states the same of that."""

import pytest

from tests.e2e.memstab_recorder import Recorder
from tests.host import standin
from tests.host.contract import stated


class Hooks:
    """Writes the script hooks down."""

    def __init__(self, recorder):
        self.recorder = recorder

    def process(self, p, args):
        p.extra_generation_params["Recorder"] = self.recorder.infotext
        self.recorder.hook("process")

    def before_sampling(self, p, x):
        self.recorder.hook("before_sampling")

    def after_composite(self, p, image):
        self.recorder.hook("after_composite")

    def __getattr__(self, name):
        return lambda p, *_: self.recorder.hook(name)


@pytest.fixture
def record(bare):
    def run(sampler, prompts, batch_size, nudge):
        recorder = Recorder(nudge)

        def count(p):
            original = p.sampler.callback_state

            def step(state):
                recorder.step(state)
                return original(state)

            p.sampler.callback_state = step

        callbacks = standin.Callbacks([recorder.denoiser], [recorder.denoised], [recorder.after])
        job = standin.Job(prompts, sampler, batch_size)
        standin.run(job, Hooks(recorder), [], callbacks, [count])
        return recorder.events

    return run


@stated
def test_the_stand_in_keeps_the_contract(record, statement):
    claim, *about = statement
    claim(record, *about)
