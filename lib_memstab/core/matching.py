"""Whether a profile applies to a job: by checkpoint and mode, and by what its calibration covered."""

from __future__ import annotations

from dataclasses import dataclass

from lib_memstab.core.profile import STATISTIC, Checkpoint, Mode, Profile
from lib_memstab.core.report import MatchState


@dataclass(frozen=True)
class Match:
    """Whether a profile applies to a job, and why, in one sentence."""

    state: MatchState
    reason: str


def is_of(profile: Profile, checkpoint: Checkpoint) -> bool:
    """Whether the profile is of this checkpoint: by their hashes, or by name where one of them has none."""
    own = profile.checkpoint
    hashed = own.sha256 is not None and checkpoint.sha256 is not None
    return own.sha256 == checkpoint.sha256 if hashed else own.name == checkpoint.name


def match(
    profile: Profile,
    *,
    checkpoint: Checkpoint,
    channels: int,
    mode: Mode,
    sampler: str,
    scheduler: str,
    steps: int,
    guidance: float,
    size: tuple[int, int],
    loras: tuple[str, ...] = (),
) -> Match:
    """How well `profile` fits a job; `channels` and `size` (height, width) are those of its latents.

    "none": other latent channels, another checkpoint, another statistic, or no region for the mode. "transfer": the
    same checkpoint, but sampled otherwise than the calibration or with other LoRAs, or known by name only because one
    side has no hash. Else "exact".
    """
    own = profile.checkpoint
    if channels != profile.latent.channels:
        return Match("none", f"{profile.name} is for latents of {profile.latent.channels} channels, not {channels}.")
    hashed = own.sha256 is not None and checkpoint.sha256 is not None
    if not is_of(profile, checkpoint):
        return Match("none", f"{profile.name} was calibrated on {own.name}, which is not the loaded checkpoint.")
    if profile.statistic != STATISTIC:
        return Match("none", f"{profile.name} was made by a MemStab that measured otherwise.")
    calibration = profile.modes.get(mode)
    if calibration is None:
        return Match("none", f"{profile.name} was not calibrated for {mode}.")
    covered = calibration.covered
    outside = {
        f"sampler {sampler}": sampler in covered.samplers,
        f"schedule {scheduler}": scheduler in covered.schedulers,
        f"{steps} steps": covered.steps[0] <= steps <= covered.steps[1],
        f"guidance {guidance:g}": covered.guidance[0] <= guidance <= covered.guidance[1],
        f"latents of {size[0]} by {size[1]}": tuple(size) in covered.sizes,
        "a checkpoint known by its name only": hashed,
        **{f"LoRA {name}, which was not active at calibration": name in covered.loras for name in loras},
        **{f"no LoRA {name}, which was active at calibration": name in loras for name in covered.loras},
    }
    foreign = [what for what, inside in outside.items() if not inside]
    if foreign:
        return Match("transfer", f"{profile.name} carries over, with less certainty, to {', '.join(foreign)}.")
    bears = f"which bear out false alarms of 1 in {calibration.region.supported}"
    return Match("exact", f"{profile.name} was calibrated for this, on {covered.trajectories} images, {bears}.")
