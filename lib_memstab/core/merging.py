"""Several profiles of one checkpoint made into one: more trajectories, or more ways of sampling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TypeVar, get_args

import numpy as np

from lib_memstab.core.profile import Calibration, Covered, Mode, Profile, ProfileError, Versions
from lib_memstab.core.region import Band, Conditions, FloatArray, Likeness, Region, widened

T = TypeVar("T")


def merge(profiles: Sequence[Profile], name: str) -> Profile:
    """One profile called `name` of everything that these profiles of one checkpoint were calibrated on.

    A mode that one of them has is taken over. Of a mode that several have, bands of the same conditions are pooled by
    their number of trajectories, the others stand side by side, and the peaks are put together: each stays the score
    against the band it was measured with.

    Raises:
        ProfileError: for fewer than two profiles, for those that do not belong together, for the same calibration
            twice, and for bands that do not say how many trajectories they were learned from.
    """
    if len(profiles) < 2:
        raise ProfileError("merging takes two profiles or more: name another")
    first = profiles[0]
    for other in profiles[1:]:
        _check_kin(first, other)
    modes: dict[Mode, Calibration] = {}
    for mode in get_args(Mode):
        having = [one for one in profiles if mode in one.modes]
        if having:
            modes[mode] = having[0].modes[mode] if len(having) == 1 else _merged(having, mode)
    versions = [one.versions for one in profiles]
    return replace(
        first,
        name=name,
        created=max(one.created for one in profiles),
        versions=Versions(*(_joined(getattr(one, part) for one in versions) for part in ("memstab", "torch", "host"))),
        modes=modes,
    )


def _check_kin(first: Profile, other: Profile) -> None:
    hashes = {first.checkpoint.sha256, other.checkpoint.sha256}
    names = {first.checkpoint.name, other.checkpoint.name}
    differing = {
        "checkpoints": len(hashes) > 1 or (None in hashes and len(names) > 1),
        "latents": first.latent != other.latent,
        "predictions": first.prediction != other.prediction,
        "statistics": first.statistic != other.statistic,
    }
    wrong = [what for what, differs in differing.items() if differs]
    if wrong:
        raise ProfileError(
            f"{first.name} and {other.name} are of different {' and '.join(wrong)}: merge profiles of one checkpoint"
        )


def _merged(profiles: Sequence[Profile], mode: Mode) -> Calibration:
    """The mode of profiles that all have it."""
    for one, other in combinations(profiles, 2):
        _check_fit(one, other, mode)
    calibrations = [one.modes[mode] for one in profiles]
    regions = [one.region for one in calibrations]
    bands: dict[Conditions, list[tuple[Band, int]]] = {}
    for profile, region in zip(profiles, regions, strict=True):
        for band in region.bands:
            if band.count is None:
                raise ProfileError(
                    f"{profile.name} does not say how many trajectories its {mode} bands were learned from, as files "
                    "of an earlier form do not: calibrate again instead of merging it"
                )
            bands.setdefault(band.conditions, []).append((band, band.count))
    pooled = tuple(_pooled(bands[conditions], regions[0].log_sigma) for conditions in sorted(bands, key=Conditions.key))
    peaks = np.sort(np.concatenate([region.peaks for region in regions]))
    return Calibration(Region(regions[0].log_sigma, pooled, peaks), _united([one.covered for one in calibrations]))


def _check_fit(one: Profile, other: Profile, mode: Mode) -> None:
    both = f"the {mode} calibrations of {one.name} and {other.name}"
    first, second = one.modes[mode], other.modes[mode]
    if not np.array_equal(first.region.log_sigma, second.region.log_sigma):
        raise ProfileError(f"{both} reach different noise levels: calibrate again with one kind of sampler")
    if set(first.covered.loras) != set(second.covered.loras):
        raise ProfileError(f"{both} were made with different LoRAs: keep them apart")
    if np.isin(first.region.peaks, second.region.peaks).any():
        raise ProfileError(f"{both} share trajectories: merge each calibration only once")


def _pooled(bands: Sequence[tuple[Band, int]], log_sigma: FloatArray) -> Band:
    """The band of all trajectories of these bands, each with its count; nearly as learned at once.

    Squares are put together around the common mean as those of whole deviations are (Chan et al. 1979); for deviations
    upwards that holds where the bands' means are close to each other, as those of one checkpoint's ordinary pictures.
    """
    if len(bands) == 1:
        return bands[0][0]
    counts = np.array([[count] for _, count in bands], dtype=np.float64)
    means, deviations = np.stack([band.mean for band, _ in bands]), np.stack([band.deviation for band, _ in bands])
    total = counts.sum()
    mean = (counts * means).sum(axis=0) / total
    conditions = bands[0][0].conditions
    apart = widened(conditions, log_sigma) * (means - mean)
    deviation = np.sqrt((counts * (deviations**2 + apart**2)).sum(axis=0) / total)
    return Band(conditions, mean, deviation, int(total), _alike(bands))


def _alike(bands: Sequence[tuple[Band, int]]) -> Likeness | None:
    """The likeness of all trajectories of these bands, if each says its own."""
    known = [(band.likeness, count) for band, count in bands if band.likeness is not None]
    if len(known) < len(bands):
        return None
    counts, means, deviations = np.array([(count, one.mean, one.deviation) for one, count in known]).T
    mean = (counts * means).sum() / counts.sum()
    square = (counts * (deviations**2 + (means - mean) ** 2)).sum() / counts.sum()
    return Likeness(float(mean), float(np.sqrt(square)))


def _united(parts: Sequence[Covered]) -> Covered:
    steps, guidance = ([one.steps for one in parts], [one.guidance for one in parts])
    return Covered(
        samplers=_each(name for one in parts for name in one.samplers),
        schedulers=_each(name for one in parts for name in one.schedulers),
        steps=(min(low for low, _ in steps), max(high for _, high in steps)),
        guidance=(min(low for low, _ in guidance), max(high for _, high in guidance)),
        sizes=_each(size for one in parts for size in one.sizes),
        trajectories=sum(one.trajectories for one in parts),
        prompts=_joined(one.prompts for one in parts),
        loras=parts[0].loras,
    )


def _each(items: Iterable[T]) -> tuple[T, ...]:
    """Every item once, in order."""
    return tuple(dict.fromkeys(items))


def _joined(lines: Iterable[str]) -> str:
    """Lines as one, parted by semicolons; what a line already says after another merge is not said again."""
    return "; ".join(_each(part for line in lines for part in line.split("; ")))
