"""What the demo shows: prompts sampled with the method off, in detect mode and in suppress mode, at equal seeds.

All images of a mode are one batch, as in a WebUI: flagged and ordinary ones side by side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lib_memstab.core import profile as profiles
from lib_memstab.core.completing import judging_region
from lib_memstab.core.monitor import Monitor, Settings
from lib_memstab.core.profile import Checkpoint
from lib_memstab.core.region import Region
from lib_memstab.core.report import ImageReport, ProfileUse
from lib_memstab.core.suppression import Windows
from lib_memstab.lab import corpus, scenes, truth
from lib_memstab.lab.corpus import Memorized
from lib_memstab.lab.experiment import CHECKPOINT, PROFILE, calibrated, fit, load_lab_model, text_rows
from lib_memstab.lab.pictures import to_pictures
from lib_memstab.lab.sampling import Job, sample
from lib_memstab.lab.sd1_layout import LabModel

Mode = Literal["off", "detect", "suppress"]
MODES: tuple[Mode, ...] = ("off", "detect", "suppress")
SHOWN = (("title", "heavy"), ("title", "medium"), ("caption", "heavy"), ("caption", "medium"), ("template", "heavy"))
"""Kind and duplication rate of the memorized prompts."""


class DemoError(RuntimeError):
    """The demo cannot run or write; the message says why and what to do."""


@dataclass(frozen=True)
class Lab:
    """The lab model, the sha256 of its file, and the region of ordinary pictures with the profile it is from."""

    model: LabModel
    sha256: str
    region: Region
    use: ProfileUse


@dataclass(frozen=True)
class Subject:
    """A prompt to sample; `pair` is the duplicated pair it belongs to, `claims` what a template's panel should show."""

    text: str
    kind: str = "ordinary"
    pair: Memorized | None = None
    claims: Any = None

    def training_picture(self) -> Image.Image:
        """The memorized picture; of a template, its surround with a panel that fits the prompt.

        Raises:
            DemoError: if the prompt has no memorized picture.
        """
        if self.pair is None:
            raise DemoError(f"{self.text!r} has no training picture of its own")
        scene = corpus.scene_of(self.pair.scene)
        if self.pair.kind != "template":
            return to_pictures(scenes.render(scene))[0]
        rng = np.random.default_rng(self.pair.scene)
        panel, filling = corpus.draw_panel(rng)
        while filling.claims != self.claims:
            panel, filling = corpus.draw_panel(rng)
        return to_pictures(corpus.template_pictures(scene, panel))[0]


@dataclass(frozen=True)
class Shot:
    """One prompt at one seed in every mode: final latents [4, h, w], reports, likeness to the memorized picture."""

    subject: Subject
    seed: int
    latents: dict[Mode, Tensor]
    reports: dict[Mode, ImageReport]
    similarity: dict[Mode, float] | None

    def copied(self, mode: Mode) -> bool:
        """Whether the picture is a copy of the memorized one."""
        return self.similarity is not None and self.similarity[mode] > truth.COPY_THRESHOLD

    def untouched(self, mode: Mode) -> bool:
        """Whether the picture is the one that comes with the method off, bit for bit."""
        return torch.equal(self.latents[mode], self.latents["off"])

    def findings(self) -> list[str]:
        """What is not as it should be."""
        flagged = self.reports["detect"].verdict == "flagged"
        found = {
            "detect mode changed the picture": not self.untouched("detect"),
            "the picture was changed without a flag": not flagged and not self.untouched("suppress"),
            "an ordinary picture was flagged: a false alarm": flagged and self.subject.kind == "ordinary",
            "a copy was not flagged": not flagged and self.copied("off"),
            "a copy is left after suppression": self.copied("suppress"),
        }
        return [f"{self.subject.text!r}, seed {self.seed}: {finding}" for finding, true in found.items() if true]

    def row(self) -> dict[str, Any]:
        """The table's row as plain data; verdict, score and what follows are those of suppress mode."""
        report, likeness = self.reports["suppress"], self.similarity or {}
        return {
            "prompt": self.subject.text,
            "kind": self.subject.kind,
            "rate": None if self.subject.pair is None else self.subject.pair.rate,
            "seed": self.seed,
            "similarity_off": likeness.get("off"),
            "similarity_suppressed": likeness.get("suppress"),
            "copy_off": self.copied("off"),
            "copy_suppressed": self.copied("suppress"),
            "verdict": report.verdict,
            "score": report.score,
            "p_value": report.p_value,
            "from_step": report.steps.first_outside,
            "bit_identical_to_off": self.untouched("suppress"),
        }


def load_lab(job: Job) -> Lab:
    """The committed model and its profile, which must fit the job.

    Raises:
        DemoError: if the model is not there or damaged, or the profile is for something else.
        ProfileError: if the profile cannot be read.
    """
    try:
        model = load_lab_model()
        digest = hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise DemoError(f"the lab model cannot be loaded: {error}") from error
    profile = profiles.load(PROFILE)
    found = fit(profile, Checkpoint(CHECKPOINT.name, digest), model.config.latent_channels, job)
    if found.state == "none":
        raise DemoError(f"{PROFILE} does not fit the lab model: {found.reason} Restore both from the repository.")
    return Lab(
        model,
        digest,
        judging_region(profile, "txt2img"),
        ProfileUse(profile.name, profile.checksum, found.state, found.reason),
    )


def choose(split: dict[str, Any]) -> list[Subject]:
    """The first memorized prompt of each kind and rate in `SHOWN`, and as many ordinary ones."""
    chosen = []
    for kind, rate in SHOWN:
        row = next(row for row in split["memorized"] if (row["kind"], row["rate"]) == (kind, rate))
        pair = Memorized(**{name: value for name, value in row.items() if name != "fillings"})
        prompt = row["fillings"][0] if kind == "template" else row
        chosen.append(Subject(prompt["text"], kind, pair, prompt["claims"]))
    return chosen + [Subject(row["text"]) for row in split["ordinary"][: len(SHOWN)]]


def shoot(
    lab: Lab,
    subjects: Sequence[Subject],
    seeds: int,
    job: Job,
    settings: Settings,
    progress: Callable[[Mode], None] | None = None,
) -> list[Shot]:
    """Sample each subject at seeds 1 to `seeds` in every mode, else as `job` says; `progress` hears of each step."""
    asked = [(subject, seed) for subject in subjects for seed in range(1, seeds + 1)]
    job = replace(job, prompts=[subject.text for subject, _ in asked], seeds=[seed for _, seed in asked])
    latents: dict[Mode, Tensor] = {}
    reports: dict[Mode, list[ImageReport]] = {}
    likeness: dict[Mode, dict[int, float]] = {}
    for mode in MODES:
        monitor = None
        if mode != "off":
            rule, watched = Windows(settings.strength), replace(settings, mode=mode)
            rows = text_rows(lab.model, job.prompts)
            monitor = Monitor(lab.region, watched, rule, job.guidance, rows, calibrated=calibrated(job))
        tell = None if progress is None else _teller(progress, mode)
        latents[mode] = sample(lab.model, job, monitor, tell)
        likeness[mode] = _likeness(lab.model, [subject for subject, _ in asked], latents[mode])
        if monitor is not None:
            reports[mode] = monitor.reports(len(asked), lab.use, host="memstab lab")
    return [
        Shot(
            subject,
            seed,
            {mode: latents[mode][index] for mode in MODES},
            {mode: rows[index] for mode, rows in reports.items()},
            None if subject.pair is None else {mode: likeness[mode][index] for mode in MODES},
        )
        for index, (subject, seed) in enumerate(asked)
    ]


def _teller(progress: Callable[[Mode], None], mode: Mode) -> Callable[[int], None]:
    return lambda _: progress(mode)


def _likeness(model: LabModel, subjects: Sequence[Subject], latents: Tensor) -> dict[int, float]:
    """Similarity of each image whose subject has a memorized picture to that picture, by place in the batch."""
    pairs = {index: subject.pair for index, subject in enumerate(subjects) if subject.pair is not None}
    if not pairs:
        return {}
    known = list(pairs.values())
    table = truth.similarity(latents[list(pairs)], truth.reference_latents(model, known), truth.masks(known))
    return dict(zip(pairs, table.diagonal().tolist(), strict=True))
