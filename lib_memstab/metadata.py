"""The two texts of a picture file that can hold a badge, read without its pixels: PNG, JPEG, WebP and AVIF.

The containers are walked here rather than by Pillow, which takes a whole WebP file and any chunk of a PNG into
memory, refuses large pictures although nothing is decoded, and drops a broken text without a word. Files may be
hostile: at most `MAX_TEXT` bytes of a text are read, packed or not, of at most `MAX_PARTS` parts of a file.

PNG: text before the picture data, as MemStab and the WebUI write it. The others: the EXIF comment.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from lib_memstab.boxes import BoxError, exif_place

BADGE = "memstab"
"""Keyword of a PNG's text with the whole report."""

PARAMETERS = "parameters"
"""Keyword of a PNG's text with the infotext; the EXIF comment of the other kinds goes by the same name."""

MAX_TEXT = 4 << 20
"""Longest text that is read, in bytes."""

MAX_PARTS = 4096
"""So many chunks or segments are looked at before the picture data."""

_PNG, _JPEG, _EXIF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"Exif\0\0"
_TEXT_KINDS = (b"tEXt", b"zTXt", b"iTXt")
_LONGEST_KEYWORD = 79
_BARE_MARKERS = (0x01, *range(0xD0, 0xD8))
_EXIF_SEGMENT, _SCAN, _END = 0xE1, 0xDA, 0xD9
_WEBP_PICTURES = (b"VP8 ", b"VP8L", b"ANMF")
_AVIF = (b"ftypavif", b"ftypavis")
_EXIF_FOLDER, _USER_COMMENT = 0x8769, 0x9286


class MetadataError(ValueError):
    """A file that is no picture that can be read; the message says why."""


class _TextError(ValueError):
    """One text that cannot be read."""


@dataclass
class PictureTexts:
    """What was found in a file.

    Attributes:
        kind: "PNG", "JPEG", "WebP" or "AVIF", by the content whatever the file's name.
        found: texts by keyword, `BADGE` or `PARAMETERS`.
        damaged: why a text that is there cannot be read, by keyword; such a keyword is not in `found`.
    """

    kind: str
    found: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)

    def _take(self, keyword: str, length: int, read: Callable[[], str | None]) -> None:
        """Note what `read` finds in a part of so many bytes; a text that stands there twice counts as damaged."""
        try:
            if keyword in self.found or keyword in self.damaged:
                raise _TextError("it stands in the file twice")
            if length > MAX_TEXT:
                raise _TextError(f"it is longer than {MAX_TEXT} bytes")
            text = read()
        except _TextError as error:
            self.found.pop(keyword, None)
            self.damaged[keyword] = str(error)
        else:
            if text is not None:
                self.found[keyword] = text


def read_texts(path: Path) -> PictureTexts:
    """The texts of a picture file.

    Raises:
        MetadataError: for what is no regular file, no picture of these kinds, or ends before its picture.
        OSError: if it cannot be read.
    """
    # Opening a pipe would wait for its other end.
    if not path.is_file():
        path.stat()
        raise MetadataError("it is no regular file")
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        if head.startswith(_PNG):
            return _read_png(file)
        if head.startswith(_JPEG):
            return _read_jpeg(file)
        if head[:4] == b"RIFF" and head[8:] == b"WEBP":
            return _read_webp(file)
        if head[4:] in _AVIF:
            return _read_avif(file)
    raise MetadataError("it is empty" if not head else "it is no PNG, JPEG, WebP or AVIF picture")


def _read_png(file: BinaryIO) -> PictureTexts:
    texts = PictureTexts("PNG")
    file.seek(len(_PNG))
    for number in range(MAX_PARTS):
        length, kind = struct.unpack(">I4s", _exactly(file, 8))
        if number == 0:
            if (length, kind) != (13, b"IHDR") or not _is_sound(kind, _exactly(file, 13), file):
                raise MetadataError("its PNG header is broken")
            continue
        if kind == b"IDAT":
            return texts
        if kind == b"IEND":
            raise MetadataError("it has no picture data")
        start = file.tell()
        if kind in _TEXT_KINDS:
            keyword = file.read(min(length, _LONGEST_KEYWORD + 1)).partition(b"\0")[0].decode("latin-1")
            file.seek(start)
            if keyword in (BADGE, PARAMETERS):
                texts._take(keyword, length, partial(_png_text, file, kind, length))
        file.seek(start + length + 4)
    raise MetadataError(f"it has more than {MAX_PARTS} chunks before its picture")


def _png_text(file: BinaryIO, kind: bytes, length: int) -> str:
    """The text of a chunk that the file stands at."""
    content = _exactly(file, length)
    if not _is_sound(kind, content, file):
        raise _TextError("its checksum is wrong")
    text = content.partition(b"\0")[2]
    if kind == b"tEXt":
        return text.decode("latin-1")
    if kind == b"zTXt":
        return _unpacked(text[:1], text[1:]).decode("latin-1")
    packed, method, rest = text[:1], text[1:2], text[2:]
    # A language and the keyword in it come first.
    text = rest.partition(b"\0")[2].partition(b"\0")[2]
    try:
        return (_unpacked(method, text) if packed != b"\0" else text).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _TextError("it is not UTF-8") from error


def _unpacked(method: bytes, packed: bytes) -> bytes:
    if method != b"\0":
        raise _TextError("its compression is unknown")
    unpacking = zlib.decompressobj()
    try:
        text = unpacking.decompress(packed, MAX_TEXT + 1)
    except zlib.error as error:
        raise _TextError("its compressed text is broken") from error
    if len(text) > MAX_TEXT:
        raise _TextError(f"unpacked it is longer than {MAX_TEXT} bytes")
    if not unpacking.eof:
        raise _TextError("its compressed text is cut off")
    return text


def _is_sound(kind: bytes, content: bytes, file: BinaryIO) -> bool:
    """Whether the checksum that follows in the file is that of this chunk."""
    return zlib.crc32(content, zlib.crc32(kind)) == int.from_bytes(_exactly(file, 4), "big")


def _read_jpeg(file: BinaryIO) -> PictureTexts:
    texts = PictureTexts("JPEG")
    for marker, length in _jpeg_segments(file):
        start = file.tell()
        if marker == _EXIF_SEGMENT and length >= len(_EXIF) and file.read(len(_EXIF)) == _EXIF:
            texts._take(PARAMETERS, length, partial(_exif_text, file, length - len(_EXIF)))
        file.seek(start + length)
    return texts


def _jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Marker and length of every segment before the picture data; the file stands at its content."""
    file.seek(2)
    for _ in range(MAX_PARTS):
        before, marker = _exactly(file, 2)
        if before != 0xFF or marker == _END:
            raise MetadataError("its JPEG segments are broken")
        if marker == 0xFF:
            # A byte that only fills.
            file.seek(-1, os.SEEK_CUR)
            continue
        if marker == _SCAN:
            return
        if marker in _BARE_MARKERS:
            continue
        length = int.from_bytes(_exactly(file, 2), "big") - 2
        if length < 0:
            raise MetadataError("its JPEG segments are broken")
        yield marker, length
    raise MetadataError(f"it has more than {MAX_PARTS} segments before its picture")


def _read_webp(file: BinaryIO) -> PictureTexts:
    texts = PictureTexts("WebP")
    size = os.fstat(file.fileno()).st_size
    end = 8 + int.from_bytes(_exactly(file, 8)[4:], "little")
    if end > size:
        raise MetadataError("it is cut off")
    file.seek(12)
    pictured = False
    for _ in range(MAX_PARTS):
        if file.tell() + 8 > end:
            if not pictured:
                raise MetadataError("it has no picture data")
            return texts
        kind, length = struct.unpack("<4sI", _exactly(file, 8))
        after = file.tell() + length + length % 2
        if after > end:
            raise MetadataError("its WebP chunks are broken")
        if kind == b"EXIF":
            texts._take(PARAMETERS, length, partial(_exif_text, file, length))
        pictured |= kind in _WEBP_PICTURES
        file.seek(after)
    raise MetadataError(f"it has more than {MAX_PARTS} chunks")


def _read_avif(file: BinaryIO) -> PictureTexts:
    texts = PictureTexts("AVIF")
    size, at, place, pictured = os.fstat(file.fileno()).st_size, 0, None, False
    for _ in range(MAX_PARTS):
        if at + 8 > size:
            if not pictured:
                raise MetadataError("it has no picture data")
            if place is not None:
                file.seek(place[0])
                texts._take(PARAMETERS, place[1], partial(_avif_text, file, place[1]))
            return texts
        file.seek(at)
        length, kind = struct.unpack(">I4s", _exactly(file, 8))
        head = 16 if length == 1 else 8
        length = int.from_bytes(_exactly(file, 8), "big") if length == 1 else length or size - at
        if length < head or at + length > size:
            raise MetadataError("its AVIF boxes are broken, or it is cut off")
        if kind == b"meta" and length <= MAX_TEXT:
            try:
                place = exif_place(_exactly(file, length - head))
            except BoxError as error:
                texts.damaged[PARAMETERS] = str(error)
        pictured |= kind == b"mdat"
        at += length
    raise MetadataError(f"it has more than {MAX_PARTS} boxes")


def _avif_text(file: BinaryIO, length: int) -> str | None:
    """As `_exif_text`, behind the distance to the EXIF data's beginning."""
    if length < 4:
        raise _TextError("its EXIF data is broken")
    file.seek(4, os.SEEK_CUR)
    try:
        return _exif_text(file, length - 4)
    except MetadataError as error:
        raise _TextError("its EXIF data is cut off") from error


def _exif_text(file: BinaryIO, length: int) -> str | None:
    """The comment in the EXIF data that the file stands at; JPEG's mark of such data may be before it."""
    try:
        return _exif_comment(_exactly(file, length).removeprefix(_EXIF))
    except struct.error as error:
        raise _TextError("its EXIF data is broken") from error


def _exif_comment(data: bytes) -> str | None:
    """The text of the tag UserComment in EXIF data (a small TIFF file), None without one."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        raise _TextError("its EXIF data is broken")
    folder = _tiff_tags(data, order, struct.unpack_from(f"{order}I", data, 4)[0]).get(_EXIF_FOLDER)
    comment = None if folder is None else _tiff_tags(data, order, folder[1]).get(_USER_COMMENT)
    if comment is None or comment[0] <= 4:
        return None
    length, start = comment
    if start + length > len(data):
        raise _TextError("its EXIF comment is cut off")
    return _comment_text(data[start : start + length], order)


def _tiff_tags(data: bytes, order: str, start: int) -> dict[int, tuple[int, int]]:
    """Count and value (or its place) of every tag of the TIFF folder that starts there."""
    (count,) = struct.unpack_from(f"{order}H", data, start)
    entries = (struct.unpack_from(f"{order}HHII", data, start + 2 + 12 * index) for index in range(count))
    return {tag: (length, value) for tag, _, length, value in entries}


def _comment_text(comment: bytes, order: str) -> str:
    """The text of a UserComment, whose first eight bytes name its encoding."""
    name, text = comment[:8], comment[8:]
    if name == b"UNICODE\0":
        # The WebUI writes big-endian whatever the EXIF data says; others keep to its order.
        wide = [text.decode(encoding, "replace") for encoding in ("utf-16-be", "utf-16-le")]
        return max(wide if order == ">" else wide[::-1], key=lambda one: sum(sign < "\x80" for sign in one))
    return (text if name in (b"ASCII\0\0\0", bytes(8)) else comment).decode("utf-8", "replace")


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise MetadataError("it ends before its picture")
    return data
