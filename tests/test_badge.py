"""Badges: infotext as the WebUI parses it, real PNG files, and words that promise nothing."""

import contextlib
import dataclasses
import json
import re
import struct
import zlib
from pathlib import Path

import hypothesis
import jsonschema
import pytest
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from lib_memstab import badge
from lib_memstab.badge import (
    BadgeError,
    JobSettings,
    from_chunk,
    read_png,
    settings_from_infotext,
    settings_to_infotext,
)
from lib_memstab.core.report import Heat, ImageReport, PassReport, ProfileUse, SecondLook, StepCounts, Trace

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = Path(__file__).parents[1] / "profiles" / "badge.schema.json"

USE = ProfileUse("lab", "0123456789abcdef" * 4, "exact", "lab was calibrated for this.")
TRACE = Trace((14.5, 7.25), (1.25, 1.5), (0.75, 0.8), (1.2, 1.3))
SUPPRESSED = ImageReport(
    verdict="suppressed",
    reason="",
    partial=None,
    score=8.2149,
    p_value=1e-6,
    sensitivity=1000.0,
    mode="suppress",
    profile=USE,
    steps=StepCounts(20, 12, 12, 2),
    trace=TRACE,
    passes=(PassReport("base", "suppressed", "", 8.2149, 1e-6, USE, StepCounts(20, 12, 12, 2), TRACE),),
    host="WebUI v1.10.1",
    version="0.1.0",
    extra_evaluations=12,
    rule="late text",
    heat=Heat(1, 3, (0.0, 0.25, 1.0)),
)
CLEAR = dataclasses.replace(
    SUPPRESSED,
    verdict="clear",
    score=1.5,
    p_value=0.25,
    steps=StepCounts(20, 0, 0, None),
    passes=(),
    extra_evaluations=0,
    heat=None,
)
FLAGGED = dataclasses.replace(SUPPRESSED, verdict="flagged", p_value=0.0004, mode="detect", extra_evaluations=0)
BLIND = dataclasses.replace(
    CLEAR,
    verdict="not measured",
    reason='no profile: "dreamy", nor another, fits\nthis checkpoint',
    score=None,
    p_value=None,
    profile=None,
    steps=StepCounts(0, 0, 0, None),
    trace=Trace((), (), (), ()),
)
TRANSFER = dataclasses.replace(CLEAR, profile=dataclasses.replace(USE, match="transfer"))
TOO_SHORT = dataclasses.replace(BLIND, reason="one step is too few", partial=(1, 20))
LOOKED = dataclasses.replace(
    FLAGGED,
    score=2.5,
    p_value=0.03,
    sensitivity=100.0,
    steps=StepCounts(20, 9, 0, 3),
    passes=(),
    extra_evaluations=4,
    second_look=SecondLook(0.9312, 2.25),
)
LOOKED_SUPPRESSED = dataclasses.replace(
    LOOKED, verdict="suppressed", mode="suppress", steps=StepCounts(20, 9, 9, 3), profile=TRANSFER.profile
)
UNLIKE = dataclasses.replace(
    LOOKED, verdict="clear", steps=StepCounts(20, 0, 0, None), second_look=SecondLook(-0.0314, 3.0), heat=None
)
"""Clear, as the picture from other noise is another one."""
CASES = {
    "clear": (JobSettings(sensitivity=1000.0), CLEAR),
    "clear, transfer": (JobSettings(sensitivity=2.5), TRANSFER),
    "clear, interrupted": (JobSettings(sensitivity=1000.0, strength=0.1), dataclasses.replace(CLEAR, partial=(10, 20))),
    "flagged": (JobSettings("detect", 1000.0), FLAGGED),
    "suppressed": (JobSettings(sensitivity=1000.0, profile="dreamy v1.0 (pruned)"), SUPPRESSED),
    "suppressed, interrupted": (JobSettings(sensitivity=1000.0), dataclasses.replace(SUPPRESSED, partial=(10, 20))),
    "not measured": (JobSettings(sensitivity=1000.0), BLIND),
    "not measured, interrupted": (JobSettings(sensitivity=1000.0), TOO_SHORT),
    "flagged by its second look": (JobSettings("detect"), LOOKED),
    "suppressed by its second look, transfer": (JobSettings(), LOOKED_SUPPRESSED),
    "flagged anyway, with a second look": (
        JobSettings("detect", 1000.0),
        dataclasses.replace(FLAGGED, second_look=SecondLook(1.0, 2.25)),
    ),
    "clear after a second look": (JobSettings("detect"), UNLIKE),
    "clear for its second look": (
        JobSettings("detect"),
        dataclasses.replace(UNLIKE, score=3.1, p_value=0.005, second_look=SecondLook(-0.031, 3.3)),
    ),
}

# modules/infotext_utils.py of WebUI v1.10.1
HOST_PARAMETER = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def host_infotext(entries):
    """An infotext as the WebUI writes it, which quotes values with a comma, colon or line break."""
    entries = {"Steps": "20", "Sampler": "Euler", "Size": "512x512", **entries, "Version": "v1.10.1"}
    quoted = {k: json.dumps(v, ensure_ascii=False) if set(",\n:") & set(v) else v for k, v in entries.items()}
    return "a cat\nNegative prompt: dog\n" + ", ".join(f"{k}: {v}" for k, v in quoted.items())


def host_parse(text):
    """The entries as the WebUI reads them."""
    return dict(HOST_PARAMETER.findall(text.strip().split("\n")[-1]))


def write(path, *chunks):
    """A PNG file with these chunks between header and picture."""
    start = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in [(b"IHDR", start), *chunks, (b"IDAT", zlib.compress(b"\0" * 4)), (b"IEND", b"")]:
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", CASES)
def test_infotext_and_words_are_the_golden_ones(name):
    settings, report = CASES[name]
    golden = json.loads((GOLDEN / "badge_texts.json").read_text("utf-8"))
    assert {"infotext": badge.infotext(settings, report), "words": badge.words(report)} == golden[name]


def test_the_golden_file_has_no_case_without_a_test():
    assert list(json.loads((GOLDEN / "badge_texts.json").read_text("utf-8"))) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_infotext_survives_the_host_s_parser_unquoted(name):
    entries = badge.infotext(*CASES[name])
    text = host_infotext(entries)
    parsed = host_parse(text)
    assert '"' not in text
    assert {key: parsed[key] for key in entries} == entries
    assert all(re.fullmatch(r"\w[\w \-/]+", key) and key.startswith("MemStab") for key in entries)


JOB_SETTINGS = st.builds(
    JobSettings,
    mode=st.sampled_from(["suppress", "detect"]),
    sensitivity=st.floats(1, 1e308, exclude_min=True) | st.integers(2, 10**6).map(float),
    strength=st.floats(0, 1e308),
    profile=st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9 ._+()-]{0,20}[A-Za-z0-9_+()-])?", fullmatch=True),
)


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(JOB_SETTINGS)
def test_settings_come_back_exactly_from_a_pasted_infotext(settings):
    text = settings_to_infotext(settings)
    parsed = host_parse(host_infotext({badge.SETTINGS_KEY: text}))
    assert settings_from_infotext(parsed[badge.SETTINGS_KEY]) == settings


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(st.text(max_size=300))
def test_any_reason_makes_an_infotext_the_host_does_not_quote(reason):
    value = badge.verdict_to_infotext(dataclasses.replace(BLIND, reason=reason or "-"))
    assert not set(value) & set(',:"\n\r')
    assert value.startswith("not measured -")
    assert host_parse(host_infotext({badge.VERDICT_KEY: value}))[badge.VERDICT_KEY].strip() == value.strip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "suppress",
        "suppress 1000",
        "Suppress 1000 strength 1",
        "suppress 1000 strength 1 ",
        "suppress 1000  strength 1",
        "suppress 1 strength 1",
        "suppress 1e999 strength 1",
        "suppress 1000 strength -1",
        "suppress nan strength 1",
        "suppress ١٠٠٠ strength 1",
        "suppress 1000 strength 1 profile",
        "suppress 1000 strength 1 profile ../x",
        "suppress 1000 strength 1 rule x",
        "x" * 100_000,
    ],
)
def test_what_is_not_in_the_grammar_is_refused(text):
    with pytest.raises(BadgeError):
        settings_from_infotext(text)


@pytest.mark.parametrize("fields", [{"sensitivity": 1.0}, {"strength": float("nan")}, {"profile": "a: b, c"}])
def test_settings_that_no_infotext_can_carry_are_refused(fields):
    with pytest.raises(BadgeError):
        JobSettings(**fields)


@pytest.mark.parametrize("name", CASES)
def test_a_verdict_comes_back_from_an_infotext(name):
    report = CASES[name][1]
    text = badge.verdict_to_infotext(report)
    found = badge.verdict_from_infotext(text)
    assert (found.verdict, found.partial) == (report.verdict, report.partial)
    assert found.transfer == (report.profile is not None and report.profile.match == "transfer")
    assert found.first_outside == report.steps.first_outside
    assert bool(found.reason) == (report.verdict == "not measured")
    assert found.score == (None if report.score is None else float(f"{report.score:.3g}"))
    assert found.p_value == (None if report.p_value is None else max(report.p_value, 1e-4))
    told = report.second_look is not None and report.verdict in ("flagged", "suppressed")
    assert found.alike == (float(f"{report.second_look.likeness:.2g}") if told else None)


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(
    st.sampled_from(["flagged", "suppressed"]), st.floats(-1, 1), st.booleans(), st.none() | st.just((10, 20))
)
def test_any_likeness_comes_back_to_two_digits_from_a_pasted_infotext(verdict, likeness, transfer, partial):
    use = dataclasses.replace(USE, match="transfer") if transfer else USE
    look = SecondLook(likeness, 2.25)
    report = dataclasses.replace(LOOKED, verdict=verdict, second_look=look, profile=use, partial=partial)
    text = host_parse(host_infotext({badge.VERDICT_KEY: badge.verdict_to_infotext(report)}))[badge.VERDICT_KEY]
    found = badge.verdict_from_infotext(text)
    assert found.alike == pytest.approx(likeness, rel=0.06)
    assert (found.first_outside, found.transfer, found.partial) == (3, transfer, partial)


@pytest.mark.parametrize(
    "text",
    [
        *("", "fine", "clear p=2", "clear score 1e999", "clear  p=0.1", "clear from step", "2 clear", "clear\n"),
        *("flagged alike", "flagged alike 1.1", "flagged alike -1.1", "flagged alike 1e999", "flagged alike nan"),
        *("flagged alike 0.9 from step 2", "flagged transfer alike 0.9"),
    ],
)
def test_what_is_no_verdict_is_refused(text):
    with pytest.raises(BadgeError):
        badge.verdict_from_infotext(text)


def test_a_grid_counts_its_images():
    assert badge.summary([CLEAR, SUPPRESSED, CLEAR, BLIND]) == "2 clear / 1 suppressed / 1 not measured"
    assert badge.summary([]) == "no images"
    assert badge.grid_from_infotext("2 clear / 1 not measured") == {"clear": 2, "not measured": 1}
    for text in ("no images", "clear", "2 clear / 1 fine", "2 clear / 2 clear", "2 clear ", "9" * 5000 + " clear"):
        assert badge.grid_from_infotext(text) == {}


@pytest.mark.parametrize("name", CASES)
def test_words_tell_of_a_second_look_where_the_verdict_is_due_to_it(name):
    words = badge.words(CASES[name][1])
    assert ("but its prompt gives an unusually similar picture from other noise, likeness 0.93" in words) == (
        "by its second look" in name
    )
    assert ("not similar enough for a flag, likeness -0.031" in words) == (name == "clear after a second look")
    assert ("another picture from other noise, likeness -0.031" in words) == (name == "clear for its second look")
    assert ("noise" in words) == ("likeness" in words)


DUE_TO_THE_LOOK = [
    ({}, True),
    ({"score": 2.25}, True),
    ({"score": 2.2}, False),
    ({"score": None}, False),
    ({"p_value": 0.01}, False),
    ({"p_value": 0.011}, True),
    ({"p_value": None}, False),
    ({"sensitivity": 30.0}, False),
    ({"second_look": None}, False),
]


@pytest.mark.parametrize(("fields", "due"), DUE_TO_THE_LOOK)
def test_a_verdict_is_due_to_a_second_look_only_if_the_score_alone_was_not_enough(fields, due):
    assert ("other noise" in badge.words(dataclasses.replace(LOOKED, **fields))) == due


@pytest.mark.parametrize("name", CASES)
def test_words_never_call_a_picture_original(name):
    words = badge.words(CASES[name][1])
    assert not re.search(r"\b(original|unique|safe|genuine|authentic)\b", words, re.IGNORECASE)
    assert 1 <= len(re.findall(r"[.!?](?: |$)", words)) <= 2
    assert "\n" not in words


@pytest.mark.parametrize(("name", "report"), [("badge", SUPPRESSED), ("badge-second-look", LOOKED)])
def test_the_chunk_is_the_golden_one(name, report):
    chunk = badge.to_chunk(report)
    assert chunk == (GOLDEN / f"{name}.json").read_text("utf-8").rstrip("\n")
    assert from_chunk(chunk) == report


def test_a_chunk_of_a_memstab_without_second_looks_is_read():
    content = json.loads(badge.to_chunk(SUPPRESSED))
    del content["second_look"]
    assert from_chunk(json.dumps(content)) == SUPPRESSED


def test_the_chunk_follows_the_published_schema():
    chunk = badge.to_chunk(SUPPRESSED)
    schema = json.loads(SCHEMA.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for _, report in CASES.values():
        validator.validate(json.loads(badge.to_chunk(report)))
    for name in schema["required"]:
        content = json.loads(chunk)
        del content[name]
        assert not validator.is_valid(content)


@pytest.mark.parametrize("look", [None, {}, {"likeness": 0.9}, {"likeness": 1.1, "bound": 2.25}, 0.9], ids=str)
def test_the_schema_takes_the_second_looks_that_are_read(look):
    content = {**json.loads(badge.to_chunk(LOOKED)), "second_look": look}
    valid = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text("utf-8"))).is_valid(content)
    with contextlib.nullcontext() if valid else pytest.raises(BadgeError):
        from_chunk(json.dumps(content))
    assert valid == (look is None)


@pytest.mark.parametrize("report", [SUPPRESSED, LOOKED], ids=["suppressed", "second look"])
def test_every_field_of_a_badge_is_in_the_schema_with_a_description(report):
    schema = json.loads(SCHEMA.read_text("utf-8"))
    content = report.to_dict()

    def resolve(part):
        return {**schema["$defs"][part["$ref"].rsplit("/", 1)[1]], **part} if "$ref" in part else part

    def check(part, value):
        part = resolve(part)
        assert part["description"]
        for option in part.get("anyOf", []):
            part = {**part, **option}
        if isinstance(value, dict):
            assert set(part["properties"]) == set(value)
            for name, item in value.items():
                check(part["properties"][name], item)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            check(part["items"], value[0])

    check(schema, content)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("prompt", ["a cat", "café", "ねこ 🐈"])
def test_a_real_png_carries_report_and_infotext(tmp_path, name, prompt):
    settings, report = CASES[name]
    path, parameters = tmp_path / "ねこ.png", host_infotext(badge.infotext(settings, report)).replace("a cat", prompt)
    Image.new("RGB", (16, 8)).save(path, pnginfo=badge.png_info(report, parameters))
    found = read_png(path)
    assert found.parameters == parameters
    assert badge.to_chunk(found.report) == badge.to_chunk(report)


def test_the_host_s_own_way_of_writing_the_chunk_is_read(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("memstab", str(badge.to_chunk(SUPPRESSED)))
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png", pnginfo=info)
    assert read_png(tmp_path / "x.png") == badge.PngBadge(SUPPRESSED, None)


def test_a_picture_without_a_badge_has_none(tmp_path):
    assert read_png(write(tmp_path / "x.png")) == badge.PngBadge(None, None)


@pytest.mark.parametrize(
    "chunk",
    [
        (b"tEXt", b"memstab\0{}"),
        (b"tEXt", b"memstab\0" + b"[" * 500_000),
        (b"tEXt", b"memstab\0" + b" " * (badge.MAX_CHUNK + 1)),
        (b"zTXt", b"memstab\0\0" + zlib.compress(b"[" * (64 << 20))),
        (b"iTXt", b"memstab\0\1\0\0\0" + zlib.compress(b"[" * (64 << 20))),
        (b"zTXt", b"memstab\0\0not zlib"),
        (b"zTXt", b"memstab\0\7x"),
        (b"iTXt", b"memstab\0\0\0\0\0\xff\xfe"),
    ],
    ids=["empty", "deep", "long", "bomb", "international bomb", "broken zlib", "unknown compression", "not UTF-8"],
)
def test_a_hostile_chunk_is_a_badge_error(tmp_path, chunk):
    with pytest.raises(BadgeError, match=r"x\.png"):
        read_png(write(tmp_path / "x.png", chunk))


def test_a_picture_too_large_to_decode_is_read_as_nothing_is_decoded(tmp_path):
    path = write(tmp_path / "x.png", (b"tEXt", b"memstab\0" + badge.to_chunk(SUPPRESSED).encode()))
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    path.write_bytes(data)
    assert read_png(path).report == SUPPRESSED


def test_any_truncation_of_the_header_is_a_badge_error(tmp_path):
    path = write(tmp_path / "x.png", (b"tEXt", b"memstab\0" + badge.to_chunk(SUPPRESSED).encode()))
    data = path.read_bytes()
    for length in range(0, data.index(b"IDAT"), 7):
        path.write_bytes(data[:length])
        with pytest.raises(BadgeError):
            read_png(path)


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(st.data())
def test_any_damage_is_a_badge_error_or_harmless(tmp_path_factory, data):
    chunk = (b"tEXt", b"memstab\0" + badge.to_chunk(SUPPRESSED).encode())
    path = write(tmp_path_factory.mktemp("damage") / "x.png", chunk)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with contextlib.suppress(BadgeError):
        assert read_png(path).report in (SUPPRESSED, None)


def test_what_is_no_png(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("x.jpg", "empty.png", "none.png", "."):
        with pytest.raises(BadgeError):
            read_png(tmp_path / name)


def test_a_report_too_long_for_a_reader_is_not_written():
    values = tuple(1 / step for step in range(1, 40_000))
    with pytest.raises(BadgeError, match="shorten its trace"):
        badge.to_chunk(dataclasses.replace(CLEAR, trace=Trace(values, values, values, values)))
