"""Extraction from pictures that were made already: those of a folder, by the prompt their infotext tells."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lib_memstab.evidence.audit import STATES, Row, State, told
from lib_memstab.evidence.extraction import Extracted, extract
from lib_memstab.evidence.progress import Progress
from lib_memstab.evidence.similarity import Pictures, thumbnails
from lib_memstab.metadata import PARAMETERS, read_texts

KINDS = ("PNG", "JPEG", "WEBP")
"""Picture formats that are decoded."""

_SETTING = re.compile(r"(?:^|, )(Seed|Denoising strength|Hires upscale|Hires upscaler|Model hash|Model): ([^,]*)")
_NEGATIVE = "\nNegative prompt: "
_GRID = re.compile(r"(?:^|[-_])grid[-_]")


@dataclass(frozen=True)
class Told:
    """What a picture's infotext says: its prompt, the checkpoint and the seed; `derived` from another picture."""

    prompt: str
    checkpoint: str
    seed: str
    derived: bool


@dataclass(frozen=True)
class Skipped:
    """A picture that is left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Group:
    """The pictures of one prompt, checkpoint and treatment, one of each seed, and what they say."""

    prompt: str
    checkpoint: str
    suppressed: bool
    paths: tuple[Path, ...]
    states: dict[State, int]
    found: Extracted


def read_infotext(text: str) -> Told | None:
    """What generation parameters as the WebUI writes them say; None for text that is none."""
    body, _, last = text.strip().rpartition("\n")
    if "Steps: " not in last:
        return None
    settings = {key: value.strip() for key, value in _SETTING.findall(last)}
    if "Seed" not in settings:
        return None
    # A prompt may be empty, and then the negative one begins the text.
    prompt = f"\n{body}".partition(_NEGATIVE)[0].strip()
    hires = "Hires upscale" in settings or "Hires upscaler" in settings
    return Told(
        prompt,
        settings.get("Model hash") or settings.get("Model") or "",
        settings["Seed"],
        "Denoising strength" in settings and not hires,
    )


def groups(
    paths: Iterable[Path],
    distance: float,
    clique: int,
    progress: Progress = lambda done, total: None,
) -> tuple[list[Group], list[Skipped]]:
    """Every prompt with its pictures, those that MemStab suppressed apart; and the files that were left out.

    A seed counts once: two pictures of one seed are alike by themselves. So are those begun from another picture
    (img2img), and grids show others; these are left out.
    """
    files = list(paths)
    members: dict[tuple[str, str, bool], dict[str, tuple[Path, State, Pictures]]] = {}
    skipped: list[Skipped] = []
    for done, path in enumerate(files, start=1):
        one = _look_at(path)
        progress(done, len(files))
        if isinstance(one, Skipped):
            skipped.append(one)
            continue
        said, row, picture = one
        own = members.setdefault((said.prompt, said.checkpoint, row.state == "suppressed"), {})
        if said.seed in own:
            skipped.append(Skipped(path, f"the same seed as {own[said.seed][0]}"))
        else:
            own[said.seed] = path, row.state, picture
    return [_group(key, list(own.values()), distance, clique) for key, own in members.items()], skipped


def _group(
    key: tuple[str, str, bool], members: list[tuple[Path, State, Pictures]], distance: float, clique: int
) -> Group:
    paths, states, pictures = zip(*members, strict=True)
    counts = {state: states.count(state) for state in STATES if state in states}
    return Group(*key, paths, counts, extract(np.concatenate(pictures), distance, clique))


def _look_at(path: Path) -> tuple[Told, Row, Pictures] | Skipped:
    if _GRID.search(path.name.lower()):
        return Skipped(path, "a grid")
    try:
        texts = read_texts(path)
        said = read_infotext(texts.found.get(PARAMETERS, ""))
        if said is None:
            return Skipped(path, "it does not say how it was made")
        if said.derived:
            return Skipped(path, "made from another picture (img2img)")
        row = told(path, texts)
        if row.reason.startswith("a grid of"):
            return Skipped(path, "a grid")
        return said, row, thumbnails(_decoded(path))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return Skipped(path, f"it cannot be read: {error}")


def _decoded(path: Path) -> Pictures:
    """The picture of a file, [1, H, W, 3]; one that unpacks to far more than a WebUI makes is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=KINDS) as picture:
                return np.array(picture.convert("RGB"))[None]
        except Image.DecompressionBombWarning as error:
            raise ValueError(str(error)) from error


def by_evidence(found: Iterable[Group]) -> Iterator[Group]:
    """Groups with the most telling first: memorized ones, then by how alike their pictures are."""
    yield from sorted(found, key=lambda one: (not one.found.memorized, one.found.tightest, one.prompt))


def to_plain(found: Iterable[Group], skipped: Iterable[Skipped]) -> dict[str, Any]:
    """The same as JSON data."""
    content = {
        "groups": [_plain(one) for one in found],
        "left_out": [{"path": str(one.path), "reason": one.reason} for one in skipped],
    }
    return finite(content)


def finite(value: Any) -> Any:
    """The same with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(one: Group) -> dict[str, Any]:
    return {
        "prompt": one.prompt,
        "checkpoint": one.checkpoint,
        "suppressed": one.suppressed,
        "pictures": one.found.pictures,
        "memorized": one.found.memorized,
        "tightest": one.found.tightest,
        "clique": [str(one.paths[place]) for place in one.found.clique],
        "states": one.states,
    }
