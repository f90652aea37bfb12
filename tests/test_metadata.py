"""Texts of picture files: what PIL writes is read, and no file raises anything but the two errors, or takes memory."""

import contextlib
import io
import os
import struct
import tracemalloc
import zlib

import hypothesis
import pytest
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, features

from lib_memstab import metadata
from lib_memstab.metadata import MetadataError, PictureTexts, read_texts
from tests.evidence.pictures import COMMENT, FOLDER, with_comment
from tests.test_badge import write

AVIF = features.check("avif")
avif = pytest.param("avif", "AVIF", marks=pytest.mark.skipif(not AVIF, reason="this Pillow writes no AVIF"))
TEXT = "a cat, ねこ 🐈 café\nSteps: 20, Sampler: Euler, MemStab verdict: clear"


def broken(reason, keyword="parameters", kind="PNG"):
    return PictureTexts(kind, {}, {keyword: reason})


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("text", ["plain", "café", TEXT])
def test_every_kind_of_png_text_is_read(tmp_path, text, packed):
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "something else")
    info.add_text("parameters", text, zip=packed)
    info.add_itxt("memstab", text, "en", "MemStab", zip=packed)
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png", pnginfo=info)
    assert read_texts(tmp_path / "x.png") == PictureTexts("PNG", {"parameters": text, "memstab": text})


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "JPEG"), ("webp", "WebP"), avif])
@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le"])
def test_the_comment_of_other_kinds_is_read_in_either_byte_order(tmp_path, suffix, kind, encoding):
    path = with_comment(tmp_path / f"x.{suffix}", TEXT, encoding)
    assert read_texts(path) == PictureTexts(kind, {"parameters": TEXT})


@pytest.mark.parametrize("comment", [b"ASCII\0\0\0plain", bytes(8) + b"plain", b"plain text"])
def test_other_encodings_of_a_comment(tmp_path, comment):
    exif = Image.Exif()
    exif.get_ifd(FOLDER)[COMMENT] = comment
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg", exif=exif)
    assert read_texts(tmp_path / "x.jpg").found["parameters"] in ("plain", "plain text")


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WebP"), avif])
def test_a_picture_without_texts_has_none(tmp_path, suffix, kind):
    Image.new("RGB", (8, 8)).save(tmp_path / f"x.{suffix}")
    assert read_texts(tmp_path / f"x.{suffix}") == PictureTexts(kind)


def test_the_content_counts_and_not_the_name(tmp_path):
    assert read_texts(write(tmp_path / "x.jpg", (b"tEXt", b"parameters\0hello"))).found == {"parameters": "hello"}


FTYP = struct.pack(">I4s4sI", 16, b"ftyp", b"avif", 0)


def box(kind, content=b""):
    return struct.pack(">I4s", 8 + len(content), kind) + content


def avif_of(locations, comment=b"", item=b"Exif"):
    """An AVIF file of boxes alone, its EXIF item where `locations` say."""
    entry = box(b"infe", struct.pack(">IHH4sB", 2 << 24, 7, 0, item, 0))
    meta = box(b"meta", bytes(4) + box(b"iinf", struct.pack(">IH", 0, 1) + entry) + box(b"iloc", locations))
    return FTYP + meta + box(b"mdat", comment)


def located(offset, length, count=1, method=0, version=1, number=7):
    """The content of a box iloc with one item."""
    head = struct.pack(">IHH", version << 24, 0x4400, 1)
    middle = struct.pack(">HHHH", number, method, 0, count) if version else struct.pack(">HHH", number, 0, count)
    return head + middle + struct.pack(">II", offset, length) * count


@pytest.mark.parametrize("version", [0, 1])
def test_an_avif_files_exif_data_is_found_by_its_boxes(tmp_path, version):
    tiff = b"MM\0*" + struct.pack(">IHHHIII", 8, 1, FOLDER, 4, 1, 26, 0)
    text = b"UNICODE\0" + TEXT.encode("utf-16-be")
    tiff += struct.pack(">HHHIII", 1, COMMENT, 7, len(text), 44, 0) + text
    exif = struct.pack(">I", 6) + b"Exif\0\0" + tiff
    start = len(avif_of(located(0, 0, version=version)))
    (tmp_path / "x.avif").write_bytes(avif_of(located(start, len(exif), version=version), exif))
    assert read_texts(tmp_path / "x.avif") == PictureTexts("AVIF", {"parameters": TEXT})


@pytest.mark.parametrize(
    ("locations", "reason"),
    [
        (located(0, 4, count=2), "lies where MemStab does not read it"),
        (located(0, 4, method=1), "lies where MemStab does not read it"),
        (located(0, 4, number=8), "boxes are broken"),
        (located(0, 4)[:-1], "boxes are broken"),
        (b"", "boxes are broken"),
        (located(0, 3), "EXIF data is broken"),
        (located(1 << 31, 10), "cut off"),
        (located(0, metadata.MAX_TEXT + 1), "longer than"),
    ],
)
def test_exif_data_of_an_avif_file_that_cannot_be_read_is_told(tmp_path, locations, reason):
    (tmp_path / "x.avif").write_bytes(avif_of(locations))
    found = read_texts(tmp_path / "x.avif")
    assert found.found == {}
    assert reason in found.damaged["parameters"]


BOMB = zlib.compress(bytes(64 << 20))


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        ((b"zTXt", b"parameters\0\0" + BOMB), "unpacked it is longer than 4194304 bytes"),
        ((b"iTXt", b"parameters\0\1\0\0\0" + BOMB), "unpacked it is longer than 4194304 bytes"),
        ((b"tEXt", b"parameters\0" + bytes(metadata.MAX_TEXT)), "it is longer than 4194304 bytes"),
        ((b"zTXt", b"parameters\0\0" + zlib.compress(b"x")[:-2]), "its compressed text is cut off"),
        ((b"zTXt", b"parameters\0\0not zlib"), "its compressed text is broken"),
        ((b"zTXt", b"parameters\0"), "its compression is unknown"),
        ((b"iTXt", b"parameters\0\0\0\0\0\xff"), "it is not UTF-8"),
    ],
)
def test_a_text_that_cannot_be_read_is_told_and_takes_little_memory(tmp_path, chunk, reason):
    path = write(tmp_path / "x.png", chunk)
    tracemalloc.start()
    assert read_texts(path) == broken(reason)
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.stop()


def test_a_wrong_checksum_and_a_text_that_stands_twice_are_told(tmp_path):
    path = write(tmp_path / "x.png", (b"tEXt", b"parameters\0hello"))
    path.write_bytes(path.read_bytes().replace(b"hello", b"hallo"))
    assert read_texts(path) == broken("its checksum is wrong")
    write(path, (b"tEXt", b"memstab\0{}"), (b"tEXt", b"memstab\0{}"))
    assert read_texts(path) == broken("it stands in the file twice", "memstab")


def test_a_huge_part_is_stepped_over(tmp_path):
    path = write(tmp_path / "x.png", (b"tEXt", b"parameters\0hello"))
    data, size = path.read_bytes(), 256 << 20
    with path.open("wb") as file:
        file.write(data[:33] + struct.pack(">I4s", size, b"junk"))
        file.seek(size + 4, os.SEEK_CUR)
        file.write(data[33:])
    tracemalloc.start()
    assert read_texts(path).found == {"parameters": "hello"}
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"GIF89a", "no PNG, JPEG, WebP or AVIF"),
        (b"\x89PNG\r\n\x1a\n", "ends before its picture"),
        (b"\xff\xd8\xff", "ends before its picture"),
        (b"\xff\xd8" + b"\xff" * 100_000, "more than 4096 segments"),
        (b"\xff\xd8\xff\xd9", "segments are broken"),
        (b"\xff\xd8\xff\xe1\0\0", "segments are broken"),
        (b"\xff\xd8\xff\xe1\0\2Exif\0\0", "segments are broken"),
        (b"\xff\xd8\xff\xe1\0\7Exif\0\0", "ends before its picture"),
        (FTYP, "no picture data"),
        (FTYP + struct.pack(">I4s", 99, b"mdat"), "cut off"),
        (FTYP + struct.pack(">I4s", 4, b"mdat"), "boxes are broken"),
        (FTYP + struct.pack(">I4sQ", 1, b"mdat", 3), "boxes are broken"),
        (FTYP + struct.pack(">I4s", 8, b"free") * 5000, "more than 4096 boxes"),
        (b"RIFF\4\0\0\0WEBP", "no picture data"),
        (b"RIFF\x44\0\0\0WEBP", "cut off"),
        (b"RIFF\x0c\0\0\0WEBPVP8 \xff\0\0\0", "chunks are broken"),
    ],
)
def test_what_is_no_picture(tmp_path, data, reason):
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(MetadataError, match=reason):
        read_texts(tmp_path / "x.png")


def test_a_png_of_nothing_but_chunks_ends(tmp_path):
    with pytest.raises(MetadataError, match="more than 4096 chunks"):
        read_texts(write(tmp_path / "x.png", *[(b"junk", b"")] * 5000))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(MetadataError, match="no regular file"):
        read_texts(tmp_path / "x.png")


def samples():
    """A small file of each kind, with texts."""
    exif = Image.Exif()
    exif.get_ifd(FOLDER)[COMMENT] = b"UNICODE\0" + TEXT.encode("utf-16-be")
    info = PngImagePlugin.PngInfo()
    info.add_text("memstab", "{}")
    info.add_itxt("parameters", TEXT, zip=True)
    kinds = ["JPEG", "WEBP", "AVIF"] if AVIF else ["JPEG", "WEBP"]
    for kind, extra in (("PNG", {"pnginfo": info}), *((other, {"exif": exif.tobytes()}) for other in kinds)):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, kind, **extra)
        yield file.getvalue()


@hypothesis.settings(max_examples=400, deadline=None)
@hypothesis.given(st.sampled_from(list(samples())), st.data())
def test_no_damage_raises_anything_else(tmp_path_factory, whole, data):
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(MetadataError):
        assert set(read_texts(path).found) <= {"memstab", "parameters"}
