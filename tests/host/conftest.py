"""One extension on the stand-in WebUI, with a profile of the stand-in's model."""

import json
import types

import numpy as np
import pytest
import torch

from lib_memstab.core import profile as profiles
from lib_memstab.core.calibration import Recorder, learn
from lib_memstab.core.measurement import measure
from lib_memstab.core.profile import STATISTIC, Calibration, Checkpoint, Covered, Latent, Profile, Versions
from lib_memstab.core.region import Conditions
from lib_memstab.core.report import ImageReport
from lib_memstab.host import matching, tap
from lib_memstab.host.attacker import Attacker
from lib_memstab.host.background import Turn
from lib_memstab.host.hooks import Hooks
from lib_memstab.host.learner import Learner
from lib_memstab.host.rows import Parts, read
from lib_memstab.host.tap import Tap
from lib_memstab.host.verifier import Verifier
from lib_memstab.store import Store
from tests.host import standin, verifying


class Recording:
    """Measures a job of ordinary prompts for the profile."""

    def __init__(self):
        self.recorder = Recorder()

    def before(self, params):
        self.parts = Parts.of([[1.0]] * (len(params.x) // 2), params.x.device)

    def after(self, params, out, guided):
        rows = read(params.x, params.sigma, out, self.parts, None)
        self.recorder.update(measure(rows.sigma, rows.eps_cond, rows.eps_uncond))


CALIBRATED = ("Euler", "DPM2")
"""Large steps and small ones: as a step counts by its smaller norm, a path of large ones is a little shorter."""


def calibrate(hooks, callbacks, init=None):
    curves = []
    for turn, sampler in enumerate(CALIBRATED):
        recording, numbers = Recording(), range(turn, 48, len(CALIBRATED))
        job = standin.Job(
            [f"ordinary prompt {number}" for number in numbers],
            sampler=sampler,
            init_latent=None if init is None else init[numbers],
        )
        standin.run(job, hooks, [False], callbacks, [lambda p, recording=recording: tap.attach(p, recording)])
        own, starts = recording.recorder.curves()
        curves.append(own)
    return np.concatenate(curves), float(starts[0])


def profile_of(hooks, callbacks):
    covered = Covered(CALIBRATED, ("Automatic",), (20, 20), (7.5, 7.5), ((16, 16),), 48, "the stand-in's")
    modes = {}
    for mode, init in (("txt2img", None), ("img2img", torch.zeros(48, *standin.SHAPE))):
        curves, start = calibrate(hooks, callbacks, init)
        modes[mode] = Calibration(learn(curves, [Conditions(7.5, round(start, 3))] * len(curves)), covered)
    return Profile(
        name="stand-in",
        checkpoint=Checkpoint("stand-in", "ab" * 32),
        latent=Latent(4),
        prediction="epsilon",
        created="2026-01-01",
        versions=Versions("0", torch.__version__, "stand-in"),
        statistic=STATISTIC,
        modes=modes,
    )


class Extension:
    """MemStab on the stand-in."""

    def __init__(self, webui, state, model, folder):
        self.state, self.model, self.folder = state, model, folder
        self.store = Store(lambda: folder, folder / "shipped")
        self.host = webui.WebUI()
        self.learning = False
        self.learner = Learner(self.host, lambda: folder / "learned", self.store, lambda: self.learning)
        self.hooks = Hooks(self.host, self.choose, webui.facts_of, self.learner)
        watcher = Tap()
        self.callbacks = standin.Callbacks([watcher.before], [watcher.denoised], [watcher.after])

    def choose(self, facts, checkpoint, wanted):
        return matching.choose(self.store.all(), facts, checkpoint, wanted)

    def sample(self, prompts, memstab=None, watchers=(), **changes):
        """Pictures of one job, each with its report; `memstab` is the argument object, None for without."""
        job = standin.Job(prompts, **changes)
        args = [False] if memstab is None else [{"enabled": True, **memstab}]
        pictures, self.grid = standin.run(job, self.hooks, args, self.callbacks, watchers)
        self.job = job
        for picture in pictures:
            chunk = picture.info.get("memstab")
            picture.report = None if chunk is None else ImageReport.from_dict(json.loads(chunk))
        return pictures


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """The extension without any profile."""
    model, state = standin.install(monkeypatch)
    import importlib

    webui = importlib.import_module("lib_memstab.host.a1111")
    return Extension(webui, state, model, tmp_path)


@pytest.fixture(scope="session")
def kept():
    """Where the profile of the stand-in's model is kept for all tests."""
    return types.SimpleNamespace(profile=None)


@pytest.fixture
def made(bare, kept):
    """The profile of the stand-in's model, made by the first test that asks for it."""
    if kept.profile is None:
        kept.profile = profile_of(bare.hooks, bare.callbacks)
    return kept


@pytest.fixture
def extension(bare, made):
    """The extension with a profile of the stand-in's model."""
    profiles.save(made.profile, bare.folder)
    return bare


@pytest.fixture
def equal():
    def compare(one, other):
        return bool(np.array_equal(one.latent.numpy(), other.latent.numpy()))

    return compare


@pytest.fixture(scope="module")
def lab():
    """The lab model as a source of pictures, in few steps and batches of two."""
    from lib_memstab.evidence.verify.plan import Sampling
    from lib_memstab.evidence.verify.sources import LabSource

    made = LabSource(Sampling(steps=4, width=128, height=128))
    made.batch = 2
    return made


@pytest.fixture
def machine(lab):
    return verifying.Machine(lab)


@pytest.fixture
def calibrating():
    """Calibrations that are on their way: none, until something is put in."""
    return []


@pytest.fixture
def turn(calibrating):
    """What lets one work at a time begin."""
    return Turn(lambda: bool(calibrating))


@pytest.fixture
def attacker(machine, turn, tmp_path):
    """An attacker of the lab model."""
    return Attacker(machine, lambda: tmp_path / "attacks", turn)


@pytest.fixture
def verifier(machine, turn, tmp_path, monkeypatch):
    """A verifier of the lab model; intervals by as many rounds as tell something."""
    monkeypatch.setattr("lib_memstab.evidence.verify.figures.ROUNDS", 20)
    return Verifier(machine, lambda: tmp_path / "verifications", turn)


@pytest.fixture(scope="module")
def body():
    """What is asked for: one prompt of each list."""
    from lib_memstab.evidence.verify.lab_lists import lab_lists

    memorized, ordinary = lab_lists()
    return {"memorized": memorized.prompts[0].text, "ordinary": ordinary.prompts[0].text, "seeds": verifying.SEEDS}


@pytest.fixture
def pages(verifier, attacker, turn, calibrating):
    pytest.importorskip("fastapi", reason="the pages need FastAPI, which the WebUI brings")
    client = pytest.importorskip("fastapi.testclient")
    from lib_memstab.host import api

    class Calibrator:
        busy = property(lambda self: bool(calibrating))

        def start(self, plan):
            pytest.fail("a calibration would change the profile")

    parts = api.Parts(
        lambda: "test",
        *[None] * 2,
        Calibrator,
        *[None] * 3,
        samplers=lambda: ["Euler", "Euler a", "DPM++ 2M"],
        schedulers=lambda: ["Automatic"],
        size=lambda: (128, 128),
        folders=list,
        verifier=lambda: verifier,
        attacker=lambda: attacker,
        turn=lambda: turn,
    )
    app = api.FastAPI()
    api.add_pages(app, parts)
    return client.TestClient(app)
