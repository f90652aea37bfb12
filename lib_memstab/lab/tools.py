"""What every figure of the bench is made with: the model, who tells copies and captions apart, and the regions."""

from __future__ import annotations

from functools import lru_cache

from lib_memstab.core import profile as profiles
from lib_memstab.core.region import Region
from lib_memstab.lab.checker import CaptionChecker
from lib_memstab.lab.corpus import Corpus
from lib_memstab.lab.experiment import MODEL_FOLDER, PROFILE, load_lab_model, load_splits
from lib_memstab.lab.figures import Judge
from lib_memstab.lab.sd1_layout import LabModel

SEED_BASES = {"memorized": 10_000, "ordinary": 50_000, "hard": 90_000}
"""First seed of each kind of trajectory."""


@lru_cache(maxsize=1)
def load_tools() -> tuple[LabModel, Judge, dict[str, Region]]:
    """Model, judge, and region by mode, loaded once per process."""
    model = load_lab_model()
    checker = CaptionChecker.load(MODEL_FOLDER / "checker.safetensors")
    profile = profiles.load(PROFILE)
    regions: dict[str, Region] = {str(mode): calibration.region for mode, calibration in profile.modes.items()}
    return model, Judge.of(model, checker, Corpus(load_splits()["seed"]).memorized), regions
