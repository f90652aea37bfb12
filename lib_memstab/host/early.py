"""Early action: what follows when images of a batch are flagged while it is being sampled.

In the modes stop and retry a pass ends as soon as every image it is about is flagged (`Pass.ends`). Here the job's
`sample` is followed for one batch: a hires pass after such an end is left out, and in the mode retry the batch is
sampled again with other seeds for the flagged images, of which only these are taken over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from lib_memstab.host.job import Job
from lib_memstab.host.port import Host

log = logging.getLogger("memstab")

SEEDS = 2**32
"""The WebUI's seeds are smaller than this."""


NO_OTHER_SEEDS = (
    "MemStab cannot sample with other seeds here ({error}), so flagged images are steered away with their own."
)


def follow(p: Any, job: Job, host: Host) -> None:
    """Follow the job's next batch; `p.sample` is its own again as soon as it is called."""
    _try_other_seeds(p, job, host)
    original, own = p.sample, "sample" in vars(p)

    def sample(*args: Any, **kwargs: Any) -> Any:
        if own:
            p.sample = original
        else:
            del p.sample
        with _no_hires_after_the_end(p, job):
            return _sampled(p, job, host, lambda seeds: original(*args, **{**kwargs, "seeds": seeds}))

    p.sample = sample


def _try_other_seeds(p: Any, job: Job, host: Host) -> None:
    """See that there can be other seeds before a sampling is ended for them, so that no picture is left half done."""
    if job.retries == 0:
        return
    try:
        host.noise(p, other_seeds(p.seeds, p.all_seeds, range(len(p.seeds))))
    except Exception as error:
        job.retries = 0
        message = NO_OTHER_SEEDS.format(error=f"{type(error).__name__}: {error}")
        log.warning(message, exc_info=error)
        p.comment(message)


def other_seeds(seeds: Sequence[int], used: Collection[int], images: Collection[int]) -> list[int]:
    """The same seeds but for these images, which get the next ones after the largest that is used."""
    found, taken, last = list(seeds), set(used), max(used)
    for image in images:
        last = (last + 1) % SEEDS
        while last in taken:
            last = (last + 1) % SEEDS
        taken.add(last)
        found[image] = last
    return found


def _sampled(p: Any, job: Job, host: Host, sample: Callable[[Sequence[int]], Any]) -> Any:
    """The batch's samples, those of flagged images from other seeds as far as the mode says so."""
    samples = sample(p.seeds)
    while images := _reseeded(p, job, host):
        log.info("MemStab: flagged, so sampled again with seed %s", ", ".join(str(p.seeds[image]) for image in images))
        samples = _taken_over(samples, sample(p.seeds), images)
    return samples


def _reseeded(p: Any, job: Job, host: Host) -> list[int]:
    """The images that are to be sampled again, which have other seeds now; none where that cannot be done."""
    try:
        images = job.to_retry(p.seeds)
    except Exception as error:  # noqa: BLE001 - the user's picture must not depend on this program
        job.give_up(error)
        return []
    if not images:
        return []
    try:
        seeds = other_seeds(p.seeds, p.all_seeds, images)
        host.reseed(p, seeds)
    except Exception as error:  # noqa: BLE001 - the user's picture must not depend on this program
        p.comment(job.stay(error))
        return []
    first = p.iteration * p.batch_size
    p.seeds = seeds
    p.all_seeds[first : first + len(seeds)] = seeds
    return images


def _taken_over(samples: Any, others: Any, images: Collection[int]) -> Any:
    """The samples, those of these images from `others`: latents [B, C, H, W], or what a hires pass made of them.

    Where only one of both had its hires pass they do not fit together; then all are from `others`, whose other images
    had the same seeds as before.
    """
    if isinstance(samples, Tensor) != isinstance(others, Tensor):
        return others
    found = samples.clone() if isinstance(samples, Tensor) else samples
    for image in images:
        found[image] = others[image]
    return found


@contextmanager
def _no_hires_after_the_end(p: Any, job: Job) -> Iterator[None]:
    """While it lasts, a hires pass is left out where MemStab ended the one before it, as after an interrupt."""
    original = getattr(p, "sample_hr_pass", None)
    if original is None:
        yield
        return
    own = "sample_hr_pass" in vars(p)

    def sample_hr_pass(samples: Any, *args: Any, **kwargs: Any) -> Any:
        return samples if job.ended else original(samples, *args, **kwargs)

    p.sample_hr_pass = sample_hr_pass
    try:
        yield
    finally:
        if own:
            p.sample_hr_pass = original
        else:
            del p.sample_hr_pass
