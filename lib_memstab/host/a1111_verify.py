"""Pictures of verifications and attacks, sampled by AUTOMATIC1111's WebUI in this process, with no other script.

Each picture is a job of its own in the WebUI's queue, so that whatever the user starts meanwhile comes in between.
"""

from __future__ import annotations

import base64
import copy
import io
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
from modules import call_queue, images, progress, scripts, sd_samplers, shared
from modules.processing import (
    StableDiffusionProcessingImg2Img,
    StableDiffusionProcessingTxt2Img,
    process_images,
)

from lib_memstab import __version__, badge
from lib_memstab.core.report import AUTOMATIC
from lib_memstab.host import matching
from lib_memstab.host.a1111 import WebUI, facts_of_fields
from lib_memstab.host.background import InterruptedByUser
from lib_memstab.host.facts import Applied
from lib_memstab.host.places import own_folder
from lib_memstab.settings import TITLE
from lib_memstab.store import Store

if TYPE_CHECKING:
    from lib_memstab.evidence.verify.plan import Mode, Sampling, Taken

Share = Callable[[], tuple[int, int]]


class Pictures:
    """The WebUI as a verification or an attack needs it; `noun` says which, in the WebUI's own progress."""

    def __init__(self, host: WebUI, noun: str) -> None:
        self.noun = noun
        self._host, self._guard, self._sampling = host, threading.Lock(), False

    def vocabulary(self) -> Sequence[str]:
        """Words the text model has an entry for, the most frequent first; empty if it does not say."""
        return self._host.vocabulary()

    def source(self, sampling: Sampling, share: Share) -> InProcess:
        """Pictures of the checkpoint that is loaded now."""
        with call_queue.queue_lock:
            return InProcess(self, self._host, sampling, share)

    def interrupt(self) -> None:
        """End the picture that is being sampled for this work; those of others are left alone."""
        with self._guard:
            if self._sampling:
                shared.state.interrupt()

    def sampling(self, now: bool) -> None:
        """A picture of this work begins or is over."""
        with self._guard:
            self._sampling = now


class InProcess:
    """`verify.plan.Source` and `live.taking.Shooting` of this process: the same pictures as over the WebUI's API.

    Raises:
        SourceError: if the WebUI cannot be used as it is; the message says what to change.
    """

    batch = 1

    def __init__(self, machine: Pictures, host: WebUI, sampling: Sampling, share: Share) -> None:
        from lib_memstab.evidence.verify.plan import SourceError
        from lib_memstab.evidence.verify.webui_terms import Watch

        self._machine, self._host, self._settings, self._share = machine, host, sampling, share
        self._watch, self._store, self._begun = Watch(), Store(own_folder), time.time()
        self._task = f"task(memstab-{machine.noun})"
        applied = self._applied()
        if applied.profile is None:
            raise SourceError(applied.reason)
        self._facts = self._facts_now()

    def facts(self) -> dict[str, str]:
        """The loaded checkpoint, its profile, and what else changes every picture."""
        return dict(self._facts)

    def check(self, prompts: Sequence[str]) -> None:
        """SourceError if the WebUI would take a part of a prompt for a comment."""
        from lib_memstab.evidence.verify.webui_terms import refuse_comments

        refuse_comments(_options(), prompts)

    def take(self, prompts: Sequence[str], seeds: Sequence[int], mode: Mode) -> list[Taken]:
        """One job for each picture, each in its turn in the WebUI's queue."""
        from lib_memstab.evidence.webui_prompt import escaped

        jobs = [{"prompt": escaped(prompt), "seed": seed} for prompt, seed in zip(prompts, seeds, strict=True)]
        return [self.shoot(job, mode) for job in jobs]

    def shoot(self, changes: Mapping[str, Any], mode: Mode) -> Taken:
        """One picture of the run's sampling with `changes`, as one job in its turn.

        Their prompts mean what the WebUI reads into them: see `escaped`.

        Raises:
            SourceError: if there is none to be had, or if MemStab could not measure this run's first plain picture.
            InterruptedByUser: if the user ended it.
        """
        from lib_memstab.evidence.verify.webui_terms import PLAIN

        progress.add_task_to_queue(self._task)
        with call_queue.queue_lock:
            try:
                self._begin()
                self._refuse_changes()
                taken = self._sample(changes, mode)
            finally:
                self._end()
        self._watch.look(taken.report, mode, plain=not set(changes) - PLAIN)
        return taken

    def _begin(self) -> None:
        """The WebUI's progress shows the whole run. Interrupt may have been clicked between two pictures of ours."""
        state = shared.state
        if state.time_start == self._begun and _ended():
            raise InterruptedByUser
        state.begin(job=f"MemStab {self._machine.noun}")
        state.job_no, state.job_count = self._share()
        state.time_start = self._begun
        progress.start_task(self._task)
        self._machine.sampling(True)

    def _end(self) -> None:
        self._machine.sampling(False)
        progress.pending_tasks.pop(self._task, None)
        progress.finish_task(self._task)
        shared.state.end()
        shared.total_tqdm.clear()

    def _sample(self, changes: Mapping[str, Any], mode: Mode) -> Taken:
        from lib_memstab.evidence.verify.plan import SourceError, Taken
        from lib_memstab.evidence.verify.webui_terms import arguments

        start = time.perf_counter()
        with closing(self._job(changes)) as p:
            p.is_api = True
            p.script_args = (arguments(self._settings, mode),)
            try:
                pictures = process_images(p).images
            except Exception as error:
                # The WebUI cannot end a job that was interrupted before its first step.
                if _ended():
                    raise InterruptedByUser from error
                raise
        seconds = time.perf_counter() - start
        if _ended():
            raise InterruptedByUser
        if len(pictures) != 1:
            raise SourceError(f"the WebUI made {len(pictures)} pictures of a job of one: look at its console")
        chunk = pictures[0].info.get(badge.CHUNK)
        report = None if chunk is None else badge.from_chunk(chunk)
        return Taken(np.array(pictures[0].convert("RGB")), report, seconds)

    def _job(self, changes: Mapping[str, Any]) -> Any:
        """The WebUI's own job, with MemStab's script: img2img if there is a picture to begin from."""
        from lib_memstab.evidence.verify.webui_terms import job_of
        from lib_memstab.evidence.webui import INIT_IMAGES

        settings = {
            "sd_model": shared.sd_model,
            **job_of(self._settings, changes),
            "batch_size": 1,
            "n_iter": 1,
            "do_not_save_samples": True,
            "do_not_save_grid": True,
        }
        starts = settings.pop(INIT_IMAGES, None)
        if starts is None:
            job = StableDiffusionProcessingTxt2Img(**settings)
            job.scripts = _only_memstab(scripts.scripts_txt2img)
        else:
            job = StableDiffusionProcessingImg2Img(**settings)
            job.init_images = [images.read(io.BytesIO(base64.b64decode(one))) for one in starts]
            job.scripts = _only_memstab(scripts.scripts_img2img)
        return job

    def _refuse_changes(self) -> None:
        """SourceError if the WebUI is another one than at the start."""
        from lib_memstab.evidence.verify.plan import SourceError

        now = self._facts_now()
        for name, before in self._facts.items():
            if now[name] != before:
                raise SourceError(
                    f"the WebUI's {name} is now {now[name]}, and was {before}: what was made is kept; set it back, and "
                    f"the same {self._machine.noun} goes on from there"
                )

    def _facts_now(self) -> dict[str, str]:
        from lib_memstab.evidence.verify.webui_terms import facts_of, refuse_settings

        options = _options()
        refuse_settings(options, self._settings.sampler, [one.name for one in sd_samplers.all_samplers])
        profile = self._applied().profile
        used = "none" if profile is None else f"{profile.name}, sha256 {profile.checksum}"
        return {**facts_of(options, self._host.name, __version__), "profile": used}

    def _applied(self) -> Applied:
        one = self._settings
        facts = facts_of_fields(one.sampler, one.scheduler, one.steps, one.width, one.height, one.guidance)
        return matching.choose(self._store.all(), facts, self._host.checkpoint(), AUTOMATIC)


def _options() -> dict[str, Any]:
    from lib_memstab.evidence.verify.webui_terms import WATCHED

    return {name: getattr(shared.opts, name, "") for name in WATCHED}


def _ended() -> bool:
    """Whether the user interrupted, skipped, or asked to stop after this picture."""
    state = shared.state
    return bool(state.interrupted or state.skipped or state.stopping_generation)


def _only_memstab(loaded: scripts.ScriptRunner) -> scripts.ScriptRunner:
    """A runner of MemStab's own script of those loaded, with one argument: other extensions change nothing."""
    from lib_memstab.evidence.verify.plan import SourceError

    own = [one for one in loaded.alwayson_scripts if one.title() == TITLE]
    if not own:
        raise SourceError("MemStab's script is not loaded: reload the UI, and start again")
    script = copy.copy(own[0])
    script.args_from, script.args_to = 0, 1
    runner = scripts.ScriptRunner()
    runner.alwayson_scripts = [script]
    return runner
