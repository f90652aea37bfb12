"""Training pictures of the prompts of a list, out of a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lib_memstab.evidence.audit import SUFFIXES
from lib_memstab.evidence.descriptors import Descriptor
from lib_memstab.evidence.verify.plan import Subject

MAX_PIXELS: Final = 64_000_000
"""Largest training picture."""


class TrainingPictureError(ValueError):
    """Training pictures that cannot be used; the message says what to do."""


def read_references(
    folder: Path, subjects: Sequence[Subject], descriptor: Descriptor, *, links: bool = True
) -> tuple[dict[int, NDArray[Any]], list[str]]:
    """Descriptor [D] of each memorized prompt's training picture by the prompt's number, and what could not be read.

    A picture belongs to a prompt if its file is named, but for the ending, as the list's index of the prompt, or as the
    file that one of the list's addresses ends in. Files that are links are read only with `links`.

    Raises:
        TrainingPictureError: if no picture belongs to a prompt.
        OSError: if the folder cannot be read.
    """
    files = _files(folder, links)
    found: dict[int, NDArray[Any]] = {}
    broken: list[str] = []
    for number, path in _belonging(files, subjects).items():
        picture = _readable(path)
        if isinstance(picture, str):
            broken.append(f"{path.name}: {picture}")
        else:
            found[number] = descriptor.describe(picture[None])[0]
    if not found:
        raise TrainingPictureError(
            f"no picture in {folder} belongs to a prompt ({len(files)} pictures, {len(broken)} of them broken): name "
            "each as the list's index, such as 1030727993.jpg, or as the file its address ends in"
        )
    return found, broken


def known_as(found: Mapping[int, NDArray[Any]]) -> str:
    """Which training pictures these are, in a few words: what a run and its resumption must have in common."""
    digest = hashlib.sha256()
    for number, one in sorted(found.items()):
        digest.update(f"{number}:".encode() + one.tobytes())
    return f"{len(found)} training pictures, {digest.hexdigest()[:16]}"


def reference_files(folder: Path, subjects: Sequence[Subject], *, links: bool = True) -> dict[int, Path]:
    """File of each memorized prompt's training picture, where there is one, by the prompt's number; unread.

    Files that are links belong only with `links`.
    """
    return _belonging(_files(folder, links), subjects)


def _files(folder: Path, links: bool = True) -> dict[str, Path]:
    """The folder's pictures by their names without the ending."""
    return {
        path.stem: path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and path.is_file() and (links or not path.is_symlink())
    }


def _readable(path: Path) -> NDArray[np.uint8] | str:
    """A picture, or why there is none."""
    try:
        return read_picture(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return str(error)


def _belonging(files: Mapping[str, Path], subjects: Sequence[Subject]) -> dict[int, Path]:
    found = {}
    for subject in subjects:
        path = next((files[name] for name in names_of(subject) if name in files), None)
        if path is not None and subject.group == "memorized":
            found[subject.number] = path
    return found


def names_of(subject: Subject) -> list[str]:
    """What the file of a prompt's training picture may be called, without its ending."""
    ends = [PurePosixPath(unquote(urlsplit(address).path)).stem for address in _valid(subject.prompt.addresses)]
    return [name for name in (subject.prompt.index, *ends) if name]


def _valid(addresses: Sequence[str]) -> list[str]:
    """Those of the addresses that can be taken apart."""
    found = []
    for address in addresses:
        try:
            urlsplit(address)
        except ValueError:
            continue
        found.append(address)
    return found


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A PNG, JPEG or WebP picture as [H, W, 3]; what is see-through is white.

    Raises:
        ValueError: if it has more than `MAX_PIXELS`.
        OSError: if it cannot be read.
    """
    with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"it has more than {MAX_PIXELS} pixels")
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            ground = Image.new("RGBA", image.size, "white")
            return np.array(Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB"))
        return np.array(image.convert("RGB"))


def described(pictures: Mapping[int, NDArray[np.uint8]], descriptor: Descriptor) -> dict[int, NDArray[Any]]:
    """Descriptors [D] of pictures [H, W, 3]."""
    return {number: descriptor.describe(picture[None])[0] for number, picture in pictures.items()}
