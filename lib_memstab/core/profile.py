"""The profile: one JSON file with the stability regions of a checkpoint and what they were calibrated on.

The dataclasses are the schema; `profiles/profile.schema.json` says the same to other programs. A file is read whole,
checked whole and written whole: UTF-8, one line per top-level field, whole numbers without a fraction, a sha256 over
everything else.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from lib_memstab.core.files import write_whole
from lib_memstab.core.measurement import REFERENCE_GUIDANCE
from lib_memstab.core.plain import PlainDataError, added, check_schema, from_plain, parse_object, to_plain
from lib_memstab.core.region import MIN_TRAJECTORIES, Region
from lib_memstab.core.report import AUTOMATIC, PROFILE_NAME, is_sha256

SCHEMA = 1
"""Number of the file format; a new one is for changed meanings only."""

MAX_BYTES = 1 << 20
"""Largest profile file."""

Mode = Literal["txt2img", "img2img"]
Prediction = Literal["epsilon", "v_prediction"]
Over = Literal["sigma", "square root of sigma"]

_WINDOWS_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?: *\..*)?", re.ASCII | re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class ProfileError(ValueError):
    """A profile that cannot be used; the message says what is wrong, in which file, and what to do."""


def check_name(name: str) -> str:
    """The name itself, if it is safe as a file name everywhere and as a word of an infotext; else ProfileError."""
    if not re.fullmatch(PROFILE_NAME, name) or _WINDOWS_DEVICE.fullmatch(name) or name.lower() == AUTOMATIC:
        raise ProfileError(
            f"{name!r} is no name for a profile: use 1 to 80 of A-Z a-z 0-9 blank . _ + - ( ), begin with a letter or "
            f"digit, do not end with a blank or dot, and use neither {AUTOMATIC!r} nor a name Windows reserves"
        )
    return name


@dataclass(frozen=True)
class Checkpoint:
    """The model a profile belongs to: its name for people, the sha256 of its file (None: the host did not hash it)."""

    name: str
    sha256: str | None

    def __post_init__(self) -> None:
        if self.sha256 is not None and not is_sha256(self.sha256):
            raise ProfileError("a checkpoint's sha256 is 64 lower-case hexadecimal digits or null")


@dataclass(frozen=True)
class Latent:
    """Latent space: channels, and pixels of the picture along the side of one latent pixel."""

    channels: int
    scale: int = 8

    def __post_init__(self) -> None:
        if not (1 <= self.channels <= 1024 and 1 <= self.scale <= 64):
            raise ProfileError("a latent has 1 to 1024 channels and a scale of 1 to 64")


@dataclass(frozen=True)
class Versions:
    """Software a profile was made with; `host` is the program around MemStab with its version."""

    memstab: str
    torch: str
    host: str


@dataclass(frozen=True)
class Statistic:
    """What the regions bound: the path length of update norms, measured at this guidance scale.

    `over`: along what the path is walked. `smaller_end`: whether a step counts by the smaller norm of its two ends.
    `evened`: whether likenesses are of evened details (`core.likeness`), or of details as they are. `upwards`: whether
    deviations are of what lies above the mean, and wider towards a path's beginning (`core.calibration`).
    What is measured now is `STATISTIC`; other profiles judge nothing.
    """

    name: Literal["path length"] = "path length"
    reference_guidance: float = REFERENCE_GUIDANCE
    over: Over = added("sigma")
    smaller_end: bool = added(False)
    evened: bool = added(False)
    upwards: bool = added(False)

    def __post_init__(self) -> None:
        if not 1 <= self.reference_guidance <= 100:
            raise ProfileError("the statistic's reference guidance is a number from 1 to 100")


STATISTIC = Statistic(over="square root of sigma", smaller_end=True, evened=True, upwards=True)
"""What this version measures, and bounds by a profile that is of the same."""


@dataclass(frozen=True)
class Covered:
    """What one region's calibration trajectories were sampled with.

    Attributes:
        samplers: names as the host writes them.
        schedulers: names of the noise schedules.
        steps: fewest and most sampling steps.
        guidance: lowest and highest guidance scale.
        sizes: height and width of each size, in latent pixels.
        trajectories: how many images were sampled.
        prompts: one line on where the prompts come from.
        loras: names of the LoRAs that were active.
    """

    samplers: tuple[str, ...]
    schedulers: tuple[str, ...]
    steps: tuple[int, int]
    guidance: tuple[float, float]
    sizes: tuple[tuple[int, int], ...]
    trajectories: int
    prompts: str
    loras: tuple[str, ...] = added(())

    def __post_init__(self) -> None:
        if not (self.samplers and self.schedulers and self.sizes):
            raise ProfileError("a calibration covers at least one sampler, one scheduler and one size")
        if not (1 <= self.steps[0] <= self.steps[1] <= 10_000 and 0 <= self.guidance[0] <= self.guidance[1] <= 1000):
            raise ProfileError("steps are [low, high] from 1 to 10000, guidance is [low, high] from 0 to 1000")
        if not all(1 <= side <= 16_384 for size in self.sizes for side in size):
            raise ProfileError("sizes are [height, width] from 1 to 16384 latent pixels")
        if self.trajectories < MIN_TRAJECTORIES:
            raise ProfileError(f"a region is learned from at least {MIN_TRAJECTORIES} trajectories")


@dataclass(frozen=True, eq=False)
class Calibration:
    """One mode of a profile: its region, and what the region was learned from."""

    region: Region
    covered: Covered


@dataclass(frozen=True, eq=False)
class Profile:
    """Everything a profile file holds, apart from schema number and checksum; compare profiles by `checksum`.

    Attributes:
        name: file name without `.json`; see `check_name`.
        checkpoint: the model it was calibrated on.
        latent: the model's latent space.
        prediction: what the model predicts.
        created: day of calibration, YYYY-MM-DD.
        versions: software it was made with.
        statistic: what the regions bound.
        modes: one calibration per mode, at least one.
    """

    name: str
    checkpoint: Checkpoint
    latent: Latent
    prediction: Prediction
    created: str
    versions: Versions
    statistic: Statistic
    modes: Mapping[Mode, Calibration]

    def __post_init__(self) -> None:
        check_name(self.name)
        if not self.modes or not set(self.modes) <= set(get_args(Mode)):
            raise ProfileError(f"modes hold at least one of {', '.join(get_args(Mode))}, and nothing else")
        try:
            datetime.date.fromisoformat(self.created if _DATE.fullmatch(self.created) else "")
        except ValueError:
            raise ProfileError("created is a day written YYYY-MM-DD") from None

    @cached_property
    def checksum(self) -> str:
        """sha256 of the canonical JSON of schema number and all fields: sorted keys, no blanks, ASCII."""
        return _digest(self._content())

    def to_dict(self) -> dict[str, Any]:
        """The file's content as plain data."""
        return {**self._content(), "checksum": self.checksum}

    def to_bytes(self) -> bytes:
        """The file, byte for byte."""
        return _file(self._content())

    def _content(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **to_plain(self)}


def from_bytes(data: bytes, source: str = "profile") -> Profile:
    """The profile in these bytes; `source` names them in errors. Line ends may be those of Windows.

    A file of an earlier form lacks fields that came later, which take their defaults; its checksum is over what it has.

    Raises:
        ProfileError: for anything but the exact bytes of a profile of this schema, as written today or earlier.
    """
    if len(data) > MAX_BYTES:
        raise ProfileError(f"{source} is larger than {MAX_BYTES} bytes: it is no profile; choose another file")
    try:
        content = parse_object(data)
        check_schema(content.get("schema"), SCHEMA)
        profile = from_plain(Profile, {name: content[name] for name in content if name not in ("schema", "checksum")})
    except PlainDataError as error:
        advice = "re-calibrate, or update MemStab if a newer one made the file"
        raise ProfileError(f"{source} is not a usable profile: {error}; {advice}") from error
    if data.replace(b"\r\n", b"\n") != _file(_fields_of(content, profile._content())):
        raise ProfileError(f"{source} is damaged or was edited: its checksum does not fit; restore it or re-calibrate")
    return profile


def read(path: Path) -> bytes:
    """A file's first bytes, one more than a profile may have; ProfileError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ProfileError(f"{path} cannot be read ({error}): check the path, or re-calibrate") from error


def load(path: Path) -> Profile:
    """The profile in a file; ProfileError as `read` and `from_bytes`."""
    return from_bytes(read(path), str(path))


def save(profile: Profile, folder: Path) -> Path:
    """Write `folder`/NAME.json in one stroke and return its path: readers see the old file or the new, never a part.

    Raises:
        ProfileError: if a reader would refuse the profile, or the folder cannot be written; an old file stays.
    """
    path, data = folder / f"{profile.name}.json", profile.to_bytes()
    from_bytes(data, str(path))
    try:
        write_whole(path, data)
    except OSError as error:
        raise ProfileError(f"{path} cannot be written ({error}): free some space or choose another folder") from error
    return path


def _fields_of(found: Any, content: Any) -> Any:
    """`content` without the fields that `found`, from a file of an earlier form, does not have."""
    if isinstance(content, dict):
        return {name: _fields_of(found[name], part) for name, part in content.items() if name in found}
    if isinstance(content, list):
        return [_fields_of(one, part) for one, part in zip(found, content, strict=True)]
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def _file(content: Mapping[str, Any]) -> bytes:
    whole = {**content, "checksum": _digest(content)}
    lines = (f"{json.dumps(key)}: {_canonical(value)}" for key, value in whole.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
