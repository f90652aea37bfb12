"""The lab's experiments: load model and splits, cut jobs into batches, record calibrations, for demo and bench."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib_memstab.calibration.ordinary import chosen
from lib_memstab.core.calibration import Recorder
from lib_memstab.core.matching import Match, match
from lib_memstab.core.measurement import measure
from lib_memstab.core.profile import Checkpoint, Profile, load
from lib_memstab.core.region import FloatArray
from lib_memstab.core.suppression import TextRows
from lib_memstab.core.windows import GLIMPSES, HALVES, Chunk, read
from lib_memstab.lab.sampling import Evaluate, Job, sample
from lib_memstab.lab.sd1_layout import LabModel, load_checkpoint

OTHER_MODEL_NAME = "MEMSTAB_LAB_MODEL"
OTHER_MODEL = os.environ.get(OTHER_MODEL_NAME)
"""Folder of a model that `train` made, with a profile that `calibrate` made there, in place of the committed ones."""

DEVICE = os.environ.get("MEMSTAB_LAB_DEVICE", "cpu")
"""What the lab samples on, as torch names it. Pictures are of the same seeds everywhere, but for rounding and for
samplers that draw their noise on the device."""

MODEL_FOLDER = Path(OTHER_MODEL or Path(__file__).parent / "model")
PROFILE = (MODEL_FOLDER if OTHER_MODEL else Path(__file__).parents[2] / "profiles") / "memstab-lab.json"
CHECKPOINT = MODEL_FOLDER / "memstab-lab.safetensors"
SCHEDULE = "Automatic"
"""The WebUI's name for each sampler's own schedule, which is what the lab samples with."""

BATCH = 64

Progress = Callable[[int], None]
"""Called with the number of images that were finished."""


def load_lab_model() -> LabModel:
    """The lab model, on `DEVICE`."""
    return load_checkpoint(CHECKPOINT, DEVICE)


@lru_cache(maxsize=1)
def load_profile() -> Profile:
    """The lab model's profile, loaded once per process."""
    return load(PROFILE)


def fit(profile: Profile, checkpoint: Checkpoint, channels: int, job: Job) -> Match:
    """Whether a profile applies to a job, as a WebUI would say of the same one; latents have so many channels."""
    return match(
        profile,
        checkpoint=checkpoint,
        channels=channels,
        mode="txt2img" if job.init is None else "img2img",
        sampler=job.sampler,
        scheduler=SCHEDULE,
        steps=job.steps,
        guidance=job.guidance,
        size=(job.height // 8, job.width // 8),
    )


def calibrated(job: Job) -> bool:
    """Whether a job is judged as one that the lab model's profile is for; img2img always is, as in `host.passes`."""
    profile = load_profile()
    fits = fit(profile, profile.checkpoint, profile.latent.channels, job).state == "exact"
    return job.init is not None or (fits and not chosen(profile.modes["txt2img"].covered))


def load_splits() -> dict[str, Any]:
    """Calibration, tuning and final prompts; see `corpus.Corpus.splits`."""
    splits: dict[str, Any] = json.loads((MODEL_FOLDER / "splits.json").read_text(encoding="utf-8"))
    return splits


def text_rows(model: LabModel, prompts: Sequence[str]) -> TextRows:
    """Which text rows of each prompt are the user's words, and what the empty prompt's rows are."""
    _, ends = model.tokenize(prompts)
    positions = torch.arange(model.config.text_positions, device=ends.device)
    read = _in_windows(model, prompts)
    return TextRows(model.encode_prompts([""]), positions[None] < ends[:, None], halves=read[:, 0], glimpses=read[:, 1])


@torch.no_grad()
def _in_windows(model: LabModel, prompts: Sequence[str]) -> Tensor:
    """Each prompt under both readings, [B, 2, T, D]."""
    tokens, ends = model.tokenize(["", *prompts])
    weights = (1.0,) * tokens.shape[1]
    empty, *chunks = (
        Chunk(tuple(row), weights, end - 1) for row, end in zip(tokens.tolist(), ends.tolist(), strict=True)
    )

    def encode(parts: Sequence[Chunk]) -> Tensor:
        return model.encode_tokens(torch.tensor([part.tokens for part in parts], device=tokens.device))

    texts = {chunk: read(chunk, empty, encode, (HALVES, GLIMPSES)) for chunk in dict.fromkeys(chunks)}
    return torch.stack([texts[chunk] for chunk in chunks])


def batches(job: Job) -> list[Job]:
    """A long job in batches of at most 64 images; images do not depend on how they are batched."""
    cut = [slice(start, start + BATCH) for start in range(0, len(job.prompts), BATCH)]
    return [
        replace(
            job,
            prompts=job.prompts[part],
            seeds=job.seeds[part],
            negative=job.negative if isinstance(job.negative, str) else job.negative[part],
            init=None if job.init is None else job.init[part],
            text=None if job.text is None else job.text[part],
        )
        for part in cut
    ]


class Watching:
    """Watches a batch without touching it and measures every evaluation for a calibration."""

    def __init__(self) -> None:
        self.recorder = Recorder()

    def condition(self, text: Tensor) -> Tensor:
        """The text as it is."""
        return text

    def evaluated(
        self, x: Tensor, sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor, eps: Tensor, evaluate: Evaluate
    ) -> Tensor:
        """The prediction as it is."""
        self.recorder.update(measure(sigma, eps_cond, eps_uncond))
        return eps


def record(model: LabModel, job: Job, progress: Progress | None = None) -> tuple[Tensor, FloatArray, FloatArray]:
    """Sample ordinary prompts for a calibration: final latents, curves [N, K] of log path length, first sigma [N]."""
    latents, measured = [], []
    for part in batches(job):
        watching = Watching()
        latents.append(sample(model, part, watching))
        measured.append(watching.recorder.curves())
        if progress is not None:
            progress(len(part.prompts))
    curves, starts = (np.concatenate(column) for column in zip(*measured, strict=True))
    return torch.cat(latents), curves, starts
