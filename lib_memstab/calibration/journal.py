"""What an unfinished calibration has measured, kept on disk image by image, so that the next one goes on from there."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.lib.npyio import NpzFile

from lib_memstab import __version__
from lib_memstab.calibration.batches import Batch, Sampled
from lib_memstab.calibration.plan import LOOK_STEPS, Plan
from lib_memstab.core.files import write_whole
from lib_memstab.core.profile import STATISTIC, Checkpoint
from lib_memstab.core.region import GRID

log = logging.getLogger("memstab")

UNFINISHED_KEPT = 3
"""Calibrations that were left unfinished and are still kept; the oldest beyond these goes."""


class Journal:
    """The images of one calibration that have been sampled, by `Batch.keys`; each call of `add` writes one file."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._images: dict[str, Sampled] = {}
        for path in sorted(folder.glob("*.npz")) if folder is not None and folder.is_dir() else ():
            self._load(path)

    def __len__(self) -> int:
        return len(self._images)

    def __contains__(self, key: object) -> bool:
        return key in self._images

    def get(self, keys: Sequence[str]) -> Sampled:
        """What came of these images, as of one batch."""
        found = [self._images[key] for key in keys]
        latents = [one.latents for one in found if one.latents is not None]
        return Sampled(
            np.concatenate([one.curves for one in found]),
            np.concatenate([one.starts for one in found]),
            np.concatenate([one.response for one in found]),
            torch.cat(latents) if latents else None,
        )

    def add(self, batch: Batch, sampled: Sampled) -> None:
        """Keep what came of a batch; where the disk will not have it, for this run only."""
        kept = sampled if batch.final else replace(sampled, latents=None)
        keys = batch.keys()
        self._take(keys, kept)
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _write(self._folder / f"{len(self._images):06}.npz", keys, kept)
        except OSError as error:
            log.warning("MemStab cannot keep what this calibration measures (%s): it cannot be resumed", error)
            self._folder = None

    def close(self) -> None:
        """The calibration is done: nothing has to be kept."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _load(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as kept:
                self._take([str(key) for key in kept["keys"]], _read(kept))
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            log.warning("MemStab measures again what %s held: it cannot be read (%s)", path, error)

    def _take(self, keys: Sequence[str], sampled: Sampled) -> None:
        for place, key in enumerate(keys):
            row = slice(place, place + 1)
            latents = None if sampled.latents is None else sampled.latents[row]
            self._images[key] = Sampled(sampled.curves[row], sampled.starts[row], sampled.response[row], latents)


def open_journal(folder: Path, checkpoint: Checkpoint, plan: Plan) -> Journal:
    """The journal of this calibration of this checkpoint in `folder`; an empty one where the plan is not to resume."""
    beside = ("name", "batch_size", "resume", "pictures")
    same = {name: value for name, value in asdict(plan).items() if name not in beside}
    facts = [__version__, asdict(STATISTIC), len(GRID), LOOK_STEPS, asdict(checkpoint), same]
    own = folder / hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    if not plan.resume:
        shutil.rmtree(own, ignore_errors=True)
    others = sorted(
        (one for one in folder.glob("*") if one.is_dir() and one != own), key=lambda one: one.stat().st_mtime
    )
    for one in others[: max(0, len(others) - UNFINISHED_KEPT + 1)]:
        shutil.rmtree(one, ignore_errors=True)
    return Journal(own)


def _write(path: Path, keys: Sequence[str], sampled: Sampled) -> None:
    arrays = {"keys": np.array(keys), **{name: getattr(sampled, name) for name in ("curves", "starts", "response")}}
    if sampled.latents is not None:
        arrays["latents"] = sampled.latents.numpy()
    file = io.BytesIO()
    np.savez(file, **arrays)
    write_whole(path, file.getvalue())


def _read(kept: NpzFile) -> Sampled:
    curves, starts, response = (kept[name].astype(np.float64) for name in ("curves", "starts", "response"))
    count = len(kept["keys"])
    if curves.shape != (count, len(GRID)) or not len(starts) == len(response) == count:
        raise ValueError("its columns are not of one length")
    latents = torch.from_numpy(kept["latents"]) if "latents" in kept.files else None
    if latents is not None and (latents.dtype != torch.float16 or latents.ndim != 4 or len(latents) != count):
        raise ValueError("its latents are of another form")
    return Sampled(curves, starts, response, latents)
