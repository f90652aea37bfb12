"""An attack wherever its pictures come from: which prompts are replayed, what is tried on them, and what came of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from lib_memstab.evidence.descriptors import Descriptor
from lib_memstab.evidence.journal import Journal
from lib_memstab.evidence.live.attacks import EVERYDAY, LIVE_ATTACKS, Target, job_of
from lib_memstab.evidence.live.judging import References, copies_by, figures, judged, models_of, name_of
from lib_memstab.evidence.live.names import AS_IT_IS
from lib_memstab.evidence.live.taking import Kept, Order, Shooting, take_all
from lib_memstab.evidence.progress import Progress
from lib_memstab.evidence.verify import webui_terms
from lib_memstab.evidence.verify.plan import Sampling, Subject
from lib_memstab.evidence.verify.references import read_references, reference_files

_NO_SCHEDULER: Final = "Automatic"
"""What a job without a scheduler has."""


@dataclass(frozen=True)
class Campaign:
    """What is tried on which prompts, and how copies are told.

    Attributes:
        subjects: prompts known to replay.
        ordinary: captions that attacks join to a prompt; everyday ones where there are none.
        names: attacks, in the order in which they are tried.
        left_out: what is not tried, in words.
        seeds: of each prompt.
    """

    subjects: Sequence[Subject]
    ordinary: Sequence[str]
    names: Sequence[str]
    left_out: Sequence[str]
    seeds: int
    sampling: Sampling
    descriptor: Descriptor
    references: References

    def plain(self) -> list[Order]:
        """Every prompt as it is, by which is told whether it is replayed."""
        return list(self._orders(self.subjects, [AS_IT_IS]))

    def attempts(self, tried: Sequence[Subject]) -> list[Order]:
        """All attempts on these prompts; an attack that asks for nothing else than a plain job does is left out."""
        return list(self._orders(tried, self.names))

    def look(self, source: Shooting, journal: Journal[Kept], progress: Progress) -> list[Subject]:
        """Take the plain pictures and tell which prompts are replayed: the others are not attacked.

        Raises:
            SourceError, OSError: see `take_all`.
        """
        take_all(self.plain(), source, journal, self.descriptor.describe, progress)
        found = models_of(journal, self.subjects, self.seeds, self.descriptor, self.references)
        replayed = {number for number, models in found if len(models)}
        return [one for one in self.subjects if one.number in replayed]

    def attempt(
        self, tried: Sequence[Subject], source: Shooting, journal: Journal[Kept], progress: Progress
    ) -> dict[str, Any]:
        """Take every attempt on these prompts and tell what came of it, as plain data.

        Raises:
            SourceError, OSError: see `take_all`.
        """
        orders = self.attempts(tried)
        take_all(orders, source, journal, self.descriptor.describe, progress)
        made = judged(journal, self.subjects, orders, self.seeds, self.descriptor, self.references)
        return {
            "seeds": self.seeds,
            "prompts": len(self.subjects),
            "replayed": len(tried),
            "copies_by": copies_by(self.descriptor, self.references, self.subjects),
            **figures(made, self.descriptor.threshold),
            "left_out": list(self.left_out),
        }

    def _orders(self, subjects: Sequence[Subject], names: Sequence[str]) -> Iterator[Order]:
        """Prompt by prompt."""
        captions = self.ordinary or EVERYDAY
        size = self.sampling.width, self.sampling.height
        for subject in subjects:
            others = [text for text in captions if text != subject.prompt.text] or EVERYDAY
            file = self.references.files.get(subject.number)
            for name in names:
                attack = LIVE_ATTACKS[name]
                for place, seed in enumerate(subject.seeds(self.seeds)):
                    other = others[(subject.place * self.seeds + place) % len(others)]
                    target = Target(subject.prompt.text, other, seed, *size, file)
                    if attack.knows == "picture":
                        if file is not None:
                            yield Order(subject.number, name_of(name, seed), partial(_job, name, target))
                        continue
                    job, plain = job_of(attack, target), job_of(LIVE_ATTACKS[AS_IT_IS], target)
                    assert plain is not None
                    if job is not None and (name == AS_IT_IS or self._asks(job) != self._asks(plain)):
                        yield Order(subject.number, name_of(name, seed), partial(dict, job))

    def _asks(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """All that is asked for by a job, the WebUI's own scheduler included."""
        return {"scheduler": _NO_SCHEDULER, **webui_terms.job_of(self.sampling, job)}


def references_of(
    folder: Path | None, subjects: Sequence[Subject], descriptor: Descriptor, *, links: bool = True
) -> tuple[References, list[str]]:
    """The training pictures in a folder (None: none) by their prompts, and what could not be read.

    Raises:
        TrainingPictureError, OSError: see `read_references`.
    """
    if folder is None:
        return References({}, {}, "none"), []
    found, broken = read_references(folder, subjects, descriptor, links=links)
    paths = reference_files(folder, subjects, links=links)
    files = {number: path for number, path in paths.items() if number in found}
    digest = hashlib.sha256()
    for number, path in sorted(files.items()):
        digest.update(f"{number}:".encode() + hashlib.sha256(path.read_bytes()).digest())
    return References(found, files, f"{len(found)} training pictures, {digest.hexdigest()[:16]}"), broken


def _job(name: str, target: Target) -> dict[str, Any]:
    """A job with a picture in it, which is made only when it is asked for."""
    job = job_of(LIVE_ATTACKS[name], target)
    assert job is not None
    return job
