"""Attacks through a running WebUI: what is tried on which prompt, without MemStab and with it, and what it came to."""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from lib_memstab.cli import FINDING, UseError
from lib_memstab.evidence.attack import ALLOWED
from lib_memstab.evidence.audit_table import shown
from lib_memstab.evidence.descriptors import Descriptor, chosen
from lib_memstab.evidence.live import call
from lib_memstab.evidence.live.attacks import AS_IT_IS, EVERYDAY, LIVE_ATTACKS, SAMPLERS, Target, job_of
from lib_memstab.evidence.live.judging import References, copies_by, figures, judged, models_of, name_of, words
from lib_memstab.evidence.live.taking import Order, take_all
from lib_memstab.evidence.progress import bar
from lib_memstab.evidence.verify.plan import Subject, subjects_of
from lib_memstab.evidence.verify.references import read_references, reference_files
from lib_memstab.evidence.verify.sources import WebUISource
from lib_memstab.evidence.webui_call import BROKEN_TOLD

log = logging.getLogger("memstab")

SEEDS: Final = 4
RESULT: Final = "attack-webui.json"


def run(args: argparse.Namespace) -> int:
    """Take what is missing and tell; 1 if attackers without the picture got it more often than `ALLOWED`.

    Raises:
        UseError, SourceError, JournalError, PromptListError, DescriptorError, TrainingPictureError, WebUIError,
        OSError: with what to do.
    """
    seeds = args.seeds or SEEDS
    sampling = call.check(args, seeds)
    if args.reference is not None and not args.reference.is_dir():
        raise UseError(f"there is no folder {args.reference}: check the path")
    lists = call.lists_of(args)
    subjects = subjects_of([one for group, one in lists if group == "memorized"], [], args.limit)
    ordinary = [prompt.text for group, one in lists if group == "ordinary" for prompt in one.prompts[: args.limit]]
    descriptor = chosen(args.sscd)
    references = _references(args.reference, subjects, descriptor)
    if not references.files and seeds < 2:
        raise UseError("without training pictures copies are told by other seeds of the prompt: --seeds 2 or more")
    source = call.source_of(args, sampling, lists)
    names, left_out = _names(args.attacks, source)
    folder = args.out or Path("attack")
    journal = call.journal_of(args, folder, lists, seeds, source, descriptor.name, references.words)
    # What is no copy as it is, is not attacked: plain pictures come first, and are always there.
    plain = list(_orders(subjects, [AS_IT_IS], seeds, ordinary, references, source))
    with call.told_where_it_stopped(journal), bar("picture") as progress:
        take_all(plain, source, journal, descriptor.describe, progress)
        replayed = {
            number for number, found in models_of(journal, subjects, seeds, descriptor, references) if len(found)
        }
        tried = [one for one in subjects if one.number in replayed]
        orders = list(_orders(tried, names, seeds, ordinary, references, source))
        take_all(orders, source, journal, descriptor.describe, progress)
    attempts = judged(journal, subjects, orders, seeds, descriptor, references)
    content = {
        "seeds": seeds,
        "prompts": len(subjects),
        "replayed": len(tried),
        "copies_by": copies_by(descriptor, references, subjects),
        **figures(attempts, descriptor.threshold),
        "left_out": left_out,
    }
    call.tell(args, folder / RESULT, content, lambda: words(content, folder / RESULT))
    whole = content["without_picture"]
    return FINDING if whole["copies_with"] > ALLOWED * whole["attempts"] else 0


def _references(folder: Path | None, subjects: Sequence[Subject], descriptor: Descriptor) -> References:
    if folder is None:
        return References({}, {}, "none")
    found, broken = read_references(folder, subjects, descriptor)
    for one in broken[:BROKEN_TOLD]:
        log.warning("training picture that cannot be read: %s", shown(one))
    files = {number: path for number, path in reference_files(folder, subjects).items() if number in found}
    digest = hashlib.sha256()
    for number, path in sorted(files.items()):
        digest.update(f"{number}:".encode() + hashlib.sha256(path.read_bytes()).digest())
    return References(found, files, f"{len(found)} training pictures, {digest.hexdigest()[:16]}")


def _names(asked: Sequence[str] | None, source: WebUISource) -> tuple[list[str], list[str]]:
    """The attacks that are tried, and what is left out, in words."""
    names = [name for name in LIVE_ATTACKS if not asked or name in asked]
    lacking = [name for name in names if name in SAMPLERS and name not in source.samplers]
    if asked and lacking:
        raise UseError(f"the WebUI has no sampler {lacking[0]!r}: leave it out of --attacks")
    return [name for name in names if name not in lacking], [f"the WebUI has no sampler {name!r}" for name in lacking]


def _orders(
    subjects: Sequence[Subject],
    names: Sequence[str],
    seeds: int,
    ordinary: Sequence[str],
    references: References,
    source: WebUISource,
) -> Iterator[Order]:
    """All attempts, prompt by prompt; an attack that asks for nothing else than a plain job does is left out."""
    captions = ordinary or EVERYDAY
    size = source.sampling.width, source.sampling.height
    for subject in subjects:
        others = [text for text in captions if text != subject.prompt.text] or EVERYDAY
        file = references.files.get(subject.number)
        for name in names:
            attack = LIVE_ATTACKS[name]
            for place, seed in enumerate(subject.seeds(seeds)):
                other = others[(subject.place * seeds + place) % len(others)]
                target = Target(subject.prompt.text, other, seed, *size, file)
                if attack.knows == "picture":
                    if file is not None:
                        yield Order(subject.number, name_of(name, seed), partial(_job, name, target))
                    continue
                job, plain = job_of(attack, target), job_of(LIVE_ATTACKS[AS_IT_IS], target)
                assert plain is not None
                if job is not None and (name == AS_IT_IS or source.job(job) != source.job(plain)):
                    yield Order(subject.number, name_of(name, seed), partial(dict, job))


def _job(name: str, target: Target) -> dict[str, Any]:
    """A job with a picture in it, which is made only when it is asked for."""
    job = job_of(LIVE_ATTACKS[name], target)
    assert job is not None
    return job
