"""Where an AVIF file has its EXIF data: the boxes of ISO 14496-12 (file) and 23008-12 (items), as far as it takes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

EXIF_ITEM = b"Exif"


class BoxError(ValueError):
    """Boxes that are not as the format has them, or in a way that is not read here; the message says which."""


class _Reader:
    """Numbers of a box's content, one after the other; struct.error where it ends."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> int:
        """The next number of 0, 1, 2, 4 or 8 bytes, high byte first."""
        if size == 0:
            return 0
        (found,) = struct.unpack_from({1: ">B", 2: ">H", 4: ">I", 8: ">Q"}[size], self._data, self._at)
        self._at += size
        return int(found)

    def rest(self) -> bytes:
        """What was not taken."""
        return self._data[self._at :]


def exif_place(meta: bytes) -> tuple[int, int] | None:
    """Offset in the file, and length, of the EXIF item that a box `meta` with this content tells; None without one.

    Raises:
        BoxError: if the boxes are broken, or the item lies in pieces or outside of the file's data.
    """
    try:
        own = dict(_boxes(meta[4:]))
        item = _exif_item(own.get(b"iinf", b""))
        return None if item is None else _place(own.get(b"iloc", b""), item)
    except (struct.error, KeyError) as error:
        raise BoxError("its AVIF boxes are broken") from error


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes in a box; a larger size than there is ends them."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8 or at + size > len(data):
            raise BoxError("its AVIF boxes are broken")
        yield kind, data[at + 8 : at + size]
        at += size


def _exif_item(content: bytes) -> int | None:
    """The number of the item that is EXIF data, from the list of items."""
    if not content:
        return None
    reader = _Reader(content)
    version = reader.take(4) >> 24
    reader.take(2 if version == 0 else 4)
    for kind, entry in _boxes(reader.rest()):
        one = _Reader(entry)
        version = one.take(4) >> 24
        if kind != b"infe" or version < 2:
            continue
        number = one.take(2 if version == 2 else 4)
        one.take(2)
        if one.rest()[:4] == EXIF_ITEM:
            return number
    return None


def _place(content: bytes, item: int) -> tuple[int, int]:
    """Where the item lies, from the list of places."""
    reader = _Reader(content)
    version = reader.take(4) >> 24
    sizes = reader.take(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = 4 if version == 2 else 2
    for _ in range(reader.take(wide)):
        number = reader.take(wide)
        method = reader.take(2) & 15 if version in (1, 2) else 0
        elsewhere = reader.take(2)
        base = reader.take(base_size)
        pieces = reader.take(2)
        places = []
        for _ in range(pieces):
            if version in (1, 2):
                reader.take(index_size)
            places.append((base + reader.take(offset_size), reader.take(length_size)))
        if number == item:
            if method or elsewhere or len(places) != 1:
                raise BoxError("its EXIF data lies where MemStab does not read it")
            return places[0]
    raise BoxError("its AVIF boxes are broken")
