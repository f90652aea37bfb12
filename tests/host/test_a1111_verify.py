"""Pictures of verifications and attacks inside the stand-in: those of a user's job, one by one, and never mixed up."""

import base64
import importlib
import io
import sys
import threading
import types

import numpy as np
import pytest
import torch
from PIL import Image

from lib_memstab.evidence.verify.plan import Sampling, SourceError
from lib_memstab.host.background import InterruptedByUser
from tests.host import standin

REPLAYED, ORDINARY = "a replay of something", "ordinary prompt 216"


class Queue:
    """call_queue.queue_lock: counts who comes in, and lets others in between."""

    def __init__(self):
        self.entered, self.between, self._lock = 0, [], threading.RLock()

    def __enter__(self):
        self._lock.acquire()
        self.entered += 1
        if self.between:
            self.between.pop(0)()

    def __exit__(self, *_):
        self._lock.release()


class State(types.SimpleNamespace):
    """shared.state, as far as a job's begin and end go."""

    interrupted = skipped = stopping_generation = False
    time_start, job_no, job_count, job, sampling_step = 0.0, 0, 0, "", 0

    def begin(self, job):
        self.interrupted = self.skipped = self.stopping_generation = False
        self.job, self.job_count, self.job_no, self.time_start = job, -1, 0, 1.0

    def end(self):
        self.job, self.job_count = "", 0

    def interrupt(self):
        self.interrupted = True


class Script:
    """MemStab's script among others."""

    def __init__(self, title):
        self.title = lambda: title
        self.args_from, self.args_to = 5, 9


class Runner:
    """scripts.ScriptRunner."""

    def __init__(self):
        self.alwayson_scripts = []


def picture(latent, info):
    """What stands for decoding: the latent as a picture."""
    pixels = (latent[:3].clamp(-3, 3) * 42.5 + 127.5).byte().permute(1, 2, 0).numpy()
    found = Image.fromarray(np.ascontiguousarray(pixels))
    found.info.update(info)
    return found


def latent_of(image):
    """What stands for encoding: a picture as a latent."""
    small = np.asarray(image.convert("RGBA").resize(standin.SHAPE[:0:-1]), dtype=np.float32)
    return torch.from_numpy(small / 42.5 - 3).permute(2, 0, 1)[None]


@pytest.fixture
def webui(extension, monkeypatch):
    """The stand-in with what a job of the WebUI's own needs; `jobs` are those that were sampled."""
    package, shared = sys.modules["modules"], sys.modules["modules.shared"]
    made = types.SimpleNamespace(queue=Queue(), state=State(), extension=extension)
    vars(made).update(jobs=[], during=[], shares=[], started=[], tasks=[])
    options = {"sd_model_checkpoint": "stand-in", "emphasis": "Original", "memstab_learn": False, "sd_vae": "None"}
    vars(shared.opts).update(options)
    shared.state, shared.total_tqdm = made.state, types.SimpleNamespace(clear=lambda: None)

    class Job:
        def __init__(self, **settings):
            vars(self).update(settings)

        def close(self):
            made.jobs.append(self)

    class FromPicture(Job):
        init_images = None

    def process_images(p):
        [script] = p.scripts.alwayson_scripts
        args = list(p.script_args[script.args_from : script.args_to])
        assert script.title() == "MemStab"
        made.shares.append((made.state.job_no, made.state.job_count))
        made.tasks.append((made.started[-1], made.state.job))
        if made.during:
            made.during.pop(0)()
        if made.state.interrupted:
            raise IndexError("the WebUI has no picture to tell of")
        asked = {"all_seeds": [p.seed], "steps": p.steps, "cfg_scale": p.cfg_scale, "negative": p.negative_prompt}
        if isinstance(p, FromPicture):
            asked["init_latent"] = latent_of(p.init_images[0])
        job = standin.Job([p.prompt], p.sampler_name, **asked)
        found, _ = standin.run(job, extension.hooks, args, extension.callbacks)
        return types.SimpleNamespace(images=[picture(one.latent, one.info) for one in found])

    progress = {"add_task_to_queue": lambda name: None, "start_task": made.started.append, "pending_tasks": {}}
    contents = {
        "call_queue": {"queue_lock": made.queue},
        "progress": {**progress, "finish_task": lambda name: None},
        "scripts": {
            "ScriptRunner": Runner,
            "scripts_txt2img": types.SimpleNamespace(alwayson_scripts=[Script("another"), Script("MemStab")]),
            "scripts_img2img": types.SimpleNamespace(alwayson_scripts=[Script("MemStab"), Script("a third")]),
        },
        "processing": {
            "StableDiffusionProcessingTxt2Img": Job,
            "StableDiffusionProcessingImg2Img": FromPicture,
            "DecodedSamples": list,
            "process_images": process_images,
        },
    }
    for name, content in contents.items():
        module = types.ModuleType(f"modules.{name}")
        vars(module).update(content)
        monkeypatch.setattr(package, name, module, raising=False)
        monkeypatch.setitem(sys.modules, f"modules.{name}", module)
    package.sd_samplers.all_samplers = [types.SimpleNamespace(name=name) for name in standin.SAMPLERS]
    for name in ("a1111_calibrate", "a1111_verify"):
        monkeypatch.delitem(sys.modules, f"lib_memstab.host.{name}", raising=False)
    made.module = importlib.import_module("lib_memstab.host.a1111_verify")
    monkeypatch.setattr(made.module, "own_folder", lambda: extension.folder)
    made.machine = made.module.Pictures(extension.host, "verification")
    made.options = shared.opts
    monkeypatch.setattr(package.images, "read", Image.open, raising=False)
    return made


def source(webui, share=lambda: (0, 6), **changes):
    sampling = {"sampler": "Euler", "scheduler": "Automatic", "guidance": 7.5, "width": 128, "height": 128}
    return webui.machine.source(Sampling(**{**sampling, **changes}), share)


@pytest.mark.parametrize("prompt", [REPLAYED, ORDINARY])
def test_pictures_are_those_of_a_job_of_the_users(webui, prompt):
    taken = source(webui)
    for mode, memstab in (("off", None), ("detect", {"mode": "detect"}), ("suppress", {"mode": "suppress"})):
        [one] = taken.take([prompt], [5], mode)
        [own] = webui.extension.sample([prompt], memstab, all_seeds=[5])
        assert np.array_equal(one.pixels, np.array(picture(own.latent, {})))
        assert one.report == own.report
    assert one.report.verdict == ("suppressed" if prompt == REPLAYED else "clear")


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


START = np.random.default_rng(3).integers(0, 256, (128, 128, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("changes", "own"),
    [
        ({"negative_prompt": ORDINARY}, {"negative": ORDINARY}),
        ({"cfg_scale": 3.0}, {"cfg_scale": 3.0}),
        ({"sampler_name": "Heun", "steps": 6}, {"sampler": "Heun", "steps": 6}),
        ({"prompt": f"[{ORDINARY}:{REPLAYED}:0.3]"}, {}),
        ({"prompt": f"{REPLAYED} AND {ORDINARY}"}, {}),
        ({"init_images": [png(START)], "denoising_strength": 0.75}, {"init_latent": latent_of(Image.fromarray(START))}),
    ],
    ids=["negative prompt", "CFG", "sampler and steps", "prompt editing", "AND", "img2img"],
)
def test_an_attempt_is_sampled_as_a_job_of_the_attackers(webui, changes, own):
    taken = source(webui)
    asked = {"prompt": REPLAYED, "seed": 5, **changes}
    for mode, memstab in (("off", None), ("suppress", {"mode": "suppress"})):
        one = taken.shoot(asked, mode)
        [theirs] = webui.extension.sample([asked["prompt"]], memstab, all_seeds=[5], **own)
        assert np.array_equal(one.pixels, np.array(picture(theirs.latent, {})))
        assert one.report == theirs.report
    job = webui.jobs[-1]
    assert hasattr(job, "scheduler") == ("sampler_name" not in changes)
    assert getattr(job, "denoising_strength", None) == changes.get("denoising_strength")


def test_an_attempt_that_cannot_be_measured_is_told_and_a_plain_picture_that_cannot_ends_it(webui, monkeypatch):
    taken = source(webui)
    monkeypatch.setattr(webui.extension.hooks, "_lacks", "it is too old")
    odd = taken.shoot({"prompt": REPLAYED, "seed": 5, "cfg_scale": 3.0}, "suppress")
    assert (odd.report.verdict, odd.report.reason) == ("not measured", "it is too old")
    with pytest.raises(SourceError, match="could not measure"):
        taken.shoot({"prompt": REPLAYED, "seed": 5}, "suppress")


def test_the_webuis_progress_names_what_is_on_its_way(webui):
    source(webui).take([ORDINARY], [1], "off")
    webui.machine = webui.module.Pictures(webui.extension.host, "attack")
    source(webui).take([ORDINARY], [1], "off")
    assert webui.tasks == [
        ("task(memstab-verification)", "MemStab verification"),
        ("task(memstab-attack)", "MemStab attack"),
    ]


def test_nothing_is_saved_and_the_prompt_is_plain_text(webui):
    source(webui, sensitivity=50).take(["a (big) bird"], [1], "detect")
    [job] = webui.jobs
    assert (job.do_not_save_samples, job.do_not_save_grid, job.n_iter, job.batch_size) == (True, True, 1, 1)
    assert job.prompt == r"a \(big\) bird"
    assert job.script_args == ({"enabled": True, "mode": "detect", "sensitivity": 50},)


def test_every_picture_waits_for_its_turn_and_the_progress_is_that_of_the_run(webui):
    done = [0]
    taken = source(webui, lambda: (done[0], 6))
    before = webui.queue.entered
    for place, seed in enumerate((1, 2, 3)):
        done[0] = place
        taken.take([ORDINARY], [seed], "off")
    assert webui.queue.entered - before == 3
    assert webui.shares == [(0, 6), (1, 6), (2, 6)]
    assert webui.state.job_count == 0


@pytest.mark.parametrize("flag", ["interrupted", "skipped", "stopping_generation"])
def test_interrupt_ends_the_picture_and_the_next_one_is_whole(webui, flag):
    taken = source(webui)
    webui.during.append(lambda: setattr(webui.state, flag, True))
    with pytest.raises(InterruptedByUser):
        taken.take([ORDINARY], [1], "off")
    assert len(source(webui).take([ORDINARY], [1], "off")) == 1


def test_a_picture_that_runs_out_of_memory_ends_it_and_the_next_one_is_whole(webui):
    def out_of_memory():
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    webui.during.append(out_of_memory)
    taken = source(webui)
    attempt = {"prompt": ORDINARY, "seed": 1, "init_images": [png(START)], "denoising_strength": 0.75}
    with pytest.raises(torch.cuda.OutOfMemoryError):
        taken.shoot(attempt, "suppress")
    assert (webui.state.job, webui.jobs[-1].prompt) == ("", ORDINARY)
    [theirs] = webui.extension.sample([ORDINARY], {}, all_seeds=[1], init_latent=latent_of(Image.fromarray(START)))
    assert taken.shoot(attempt, "suppress").report == theirs.report


def test_interrupt_between_two_pictures_ends_it_too_and_that_of_anothers_job_does_not(webui):
    taken = source(webui)
    taken.take([ORDINARY], [1], "off")
    webui.state.interrupt()
    with pytest.raises(InterruptedByUser):
        taken.take([ORDINARY], [2], "off")
    taken = source(webui)
    taken.take([ORDINARY], [1], "off")

    def anothers():
        webui.state.begin("txt2img")
        webui.state.interrupt()

    webui.queue.between.append(anothers)
    assert len(taken.take([ORDINARY], [2], "off")) == 1


def test_stop_ends_a_picture_of_a_verification_and_none_of_anothers(webui):
    taken = source(webui)
    webui.during.append(webui.machine.interrupt)
    with pytest.raises(InterruptedByUser):
        taken.take([ORDINARY], [1], "off")
    webui.state.begin("txt2img")
    webui.machine.interrupt()
    assert not webui.state.interrupted


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("sd_model_checkpoint", "another", "sd_model_checkpoint is now another, and was stand-in"),
        ("sd_vae", "a VAE", "sd_vae is now a VAE"),
        ("memstab_learn", True, "switch off Settings, MemStab"),
        ("emphasis", "None", "Emphasis mode"),
    ],
)
def test_a_setting_that_changes_on_the_way_ends_it(webui, name, value, words):
    taken = source(webui)
    setattr(webui.options, name, value)
    with pytest.raises(SourceError, match=words):
        taken.take([ORDINARY], [1], "off")
    assert webui.jobs == []


def test_another_profile_on_the_way_ends_it(webui):
    taken = source(webui)
    assert "stand-in, sha256 " in taken.facts()["profile"]
    file = next(webui.extension.folder.glob("*.json"))
    file.unlink()
    with pytest.raises(SourceError, match="profile is now none"):
        taken.take([ORDINARY], [1], "off")


def test_what_cannot_be_verified_is_refused_before_the_first_picture(webui):
    with pytest.raises(SourceError, match="no sampler"):
        source(webui, sampler="None such")
    taken = source(webui)
    webui.options.enable_prompt_comments = True
    with pytest.raises(SourceError, match="Enable comments"):
        taken.check(["a # b"])
    for file in webui.extension.folder.glob("*.json"):
        file.unlink()
    with pytest.raises(SourceError, match="Calibrate"):
        source(webui)
    assert webui.jobs == []


def test_reports_that_do_not_fit_the_mode_end_it(webui, monkeypatch):
    taken = source(webui)
    monkeypatch.setattr(
        webui.module, "process_images", lambda p: types.SimpleNamespace(images=[Image.new("RGB", (8, 8))])
    )
    with pytest.raises(SourceError, match="no badge"):
        taken.take([ORDINARY], [1], "detect")
    monkeypatch.setattr(webui.module, "process_images", lambda p: types.SimpleNamespace(images=[]))
    with pytest.raises(SourceError, match="made 0 pictures"):
        taken.take([ORDINARY], [1], "off")
