"""What every figure of the bench is made with: the model, who tells copies and captions apart, regions, processes."""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch

from lib_memstab.core.completing import judging_region
from lib_memstab.core.region import Region
from lib_memstab.lab.checker import CaptionChecker
from lib_memstab.lab.corpus import Corpus
from lib_memstab.lab.experiment import DEVICE, MODEL_FOLDER, load_lab_model, load_profile, load_splits
from lib_memstab.lab.figures import Judge
from lib_memstab.lab.sd1_layout import LabModel

SEED_BASES = {"memorized": 10_000, "ordinary": 50_000, "hard": 90_000}
"""First seed of each kind of trajectory."""

STATED = (10.0, 100.0, 1000.0)
"""Sensitivities whose stated rate of false alarms is held against the observed one."""

CURVE = tuple(float(round(value)) for value in np.geomspace(2, 3000, 17))
"""Sensitivities of the plot of stated against observed rates."""


@lru_cache(maxsize=1)
def load_judge() -> tuple[LabModel, Judge]:
    """Model and judge, loaded once per process."""
    model = load_lab_model()
    checker = CaptionChecker.load(MODEL_FOLDER / "checker.safetensors", model.device)
    return model, Judge.of(model, checker, Corpus(load_splits()["seed"]).memorized)


@lru_cache(maxsize=1)
def load_tools() -> tuple[LabModel, Judge, dict[str, Region]]:
    """Model, judge, and region by mode, loaded once per process."""
    profile = load_profile()
    regions: dict[str, Region] = {str(mode): judging_region(profile, mode) for mode in profile.modes}
    return *load_judge(), regions


def workers(jobs: int) -> ProcessPoolExecutor:
    """`jobs` processes of one thread each, begun anew where the lab samples on a GPU, which no fork can go on with."""
    context = get_context(None if DEVICE == "cpu" else "spawn")
    return ProcessPoolExecutor(jobs, context, initializer=torch.set_num_threads, initargs=(1,))


def given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of these arguments that the command line named; the others keep the defaults of what is measured."""
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}
