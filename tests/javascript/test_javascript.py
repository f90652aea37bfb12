"""The scripts of the gallery under node: what they read out of files and say of it. Python is the measure."""

import dataclasses
import json
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from lib_memstab import badge
from tests.test_badge import CASES, DUE_TO_THE_LOOK, host_infotext, write

NODE = shutil.which("node")
BRIDGE = Path(__file__).with_name("bridge.mjs")

pytestmark = pytest.mark.skipif(NODE is None, reason="the scripts' tests need node")

CHUNK = {name: badge.to_chunk(report) for name, (_, report) in CASES.items()}
STATES = {"clear, interrupted": "partial"}
NAMES = {"notMeasured": "not measured"}


def ask(*calls):
    """Answers of the scripts to some calls, each a name and its argument."""
    run = subprocess.run([NODE, BRIDGE], input=json.dumps(calls), capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def told(path, piece=1000):
    return ask(["told", {"path": str(path), "piece": piece}])[0]


def read(path, piece=1000):
    return ask(["read", {"path": str(path), "piece": piece}])[0]


def text(content):
    return b"tEXt", b"memstab\0" + content


def packed(content):
    return b"zTXt", b"memstab\0\0" + zlib.compress(content)


def international(content):
    return b"iTXt", b"memstab\0\0\0en\0name\0" + content


def international_packed(content):
    return b"iTXt", b"memstab\0\1\0\0\0" + zlib.compress(content)


@pytest.mark.parametrize("name", CASES)
def test_a_report_arrives_as_python_wrote_it(tmp_path, name):
    settings_, report = CASES[name]
    path = tmp_path / "a.png"
    Image.new("RGB", (32, 32)).save(
        path, pnginfo=badge.png_info(report, host_infotext(badge.infotext(settings_, report)))
    )
    answer = told(path, 7)
    expected = {key: value for key, value in report.to_dict().items() if key != "schema"}
    assert answer["report"] == expected
    assert answer["state"] == STATES.get(name, "notMeasured" if report.verdict == "not measured" else report.verdict)
    assert answer["label"] == NAMES.get(answer["state"], answer["state"])
    if report.partial:
        assert answer["long"] == "{}, partial: {} of {} steps".format(report.verdict, *report.partial)


@pytest.mark.parametrize("kind", [text, packed, international, international_packed])
@pytest.mark.parametrize("piece", [1, 64, 65536])
def test_every_kind_of_text_chunk_is_read(tmp_path, kind, piece):
    path = write(tmp_path / "a.png", kind(CHUNK["suppressed"].encode()))
    assert read(path, piece)["badge"] == CHUNK["suppressed"]
    assert badge.read_png(path).report == CASES["suppressed"][1]


def test_nothing_is_read_from_the_picture_on(tmp_path):
    path = tmp_path / "a.png"
    Image.effect_noise((1500, 1500), 90).save(path, pnginfo=badge.png_info(CASES["clear"][1], "x"))
    answer = read(path, 1024)
    assert answer["badge"] == CHUNK["clear"]
    assert answer["taken"] < 20_000 < 1_000_000 < path.stat().st_size


def test_a_badge_that_stands_twice_is_unreadable_as_in_python(tmp_path):
    path = write(tmp_path / "a.png", text(CHUNK["clear"].encode()), packed(CHUNK["clear"].encode()))
    with pytest.raises(badge.BadgeError):
        badge.read_png(path)
    assert told(path)["state"] == "unreadable"


def test_a_picture_without_a_badge_has_none(tmp_path):
    plain, grid, other = (tmp_path / name for name in ("a.png", "grid.png", "a.txt"))
    Image.new("RGB", (8, 8)).save(plain)
    write(grid, (b"tEXt", b"parameters\0" + host_infotext({"MemStab verdict": "1 clear / 1 flagged"}).encode()))
    other.write_text("memstab" * 100)
    assert ask(*(["told", {"path": str(path), "piece": 100}] for path in (plain, grid, other))) == [None] * 3


def broken(change, name="flagged"):
    content = json.loads(CHUNK[name])
    change(content)
    return json.dumps(content)


HOSTILE = {
    "no JSON": "<img src=x onerror=alert(1)>",
    "a list": "[]",
    "null": "null",
    "deep": "[" * 100_000,
    "deep in a field": CHUNK["clear"].replace('"reason":""', '"reason":' + "[" * 50_000 + "]" * 50_000),
    "not a number": CHUNK["clear"].replace("1.5", "NaN"),
    "huge number": CHUNK["clear"].replace('"score":1.5', '"score":1e999'),
    "no verdict": broken(lambda one: one.pop("verdict")),
    "another verdict": broken(lambda one: one.update(verdict="original")),
    "verdict of the prototype": broken(lambda one: one.update(verdict="constructor")),
    "long text": broken(lambda one: one.update(reason="x" * 2001)),
    "steps of text": broken(lambda one: one["steps"].update(outside="1")),
    "uneven trace": broken(lambda one: one["trace"]["norm"].append(1)),
    "long trace": broken(
        lambda one: one["trace"].update(dict.fromkeys(("sigma", "norm", "low", "high"), [1] * 50_001))
    ),
    "partial of one": broken(lambda one: one.update(partial=[1])),
    "no schema": broken(lambda one: one.pop("schema")),
    "p above 1": broken(lambda one: one.update(p_value=2)),
    "second look without a likeness": broken(lambda one: one.update(second_look={"bound": 2})),
    "second look without a bound": broken(lambda one: one.update(second_look={"likeness": 0.9, "bound": None})),
    "likeness above 1": broken(lambda one: one.update(second_look={"likeness": 2, "bound": 2})),
    "likeness of text": broken(lambda one: one.update(second_look={"likeness": "0.9", "bound": 2})),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_python_refuses_is_unreadable_here_too(tmp_path, name):
    path = write(tmp_path / "a.png", text(HOSTILE[name].encode()))
    with pytest.raises(badge.BadgeError):
        badge.read_png(path)
    answer = told(path)
    assert answer["report"] == {"error": "damaged"}
    assert (answer["state"], answer["facts"]) == ("unreadable", {})


def test_what_is_too_long_newer_or_damaged_says_so(tmp_path):
    long = text(b" " * (1 << 20) + CHUNK["clear"].encode())
    bomb = packed(b" " * (50 << 20))
    newer = text(broken(lambda one: one.update(schema=2)).encode())
    torn = b"zTXt", packed(CHUNK["clear"].encode())[1][:-20]
    bytes_ = international(CHUNK["clear"].replace("lab", "\xff").encode("latin-1"))
    paths = [write(tmp_path / f"{at}.png", chunk) for at, chunk in enumerate((long, bomb, newer, torn, bytes_))]
    flipped = write(tmp_path / "flipped.png", text(CHUNK["clear"].encode()))
    flipped.write_bytes(flipped.read_bytes().replace(b'"verdict":"clear"', b'"verdict":"cleaR"'))
    answers = ask(*(["told", {"path": str(path), "piece": 5000}] for path in [*paths, flipped]))
    assert [one["report"]["error"] for one in answers] == ["tooLong", "tooLong", "newer", *["damaged"] * 3]


@pytest.mark.parametrize("cut", [0, 5, 20, 40, 200, 600])
def test_a_file_that_is_cut_off_before_its_badge_ends_has_none(tmp_path, cut):
    path = write(tmp_path / "a.png", text(CHUNK["clear"].encode()))
    path.write_bytes(path.read_bytes()[:cut])
    assert told(path) is None


def test_a_wrong_map_leaves_the_rest_of_the_badge(tmp_path):
    for heat in ({"height": 2, "width": 2, "values": [0.5]}, {"height": 1, "width": 1, "values": [7]}, "hot", []):
        path = write(tmp_path / "a.png", text(broken(lambda one, heat=heat: one.update(heat=heat)).encode()))
        assert (told(path)["state"], told(path)["report"]["heat"]) == ("flagged", None)


AVIF = b"\0\0\0\x10ftypavif\0\0\0\0\0\0\x40\0meta\0\0\0\0\0\0\0\x20iinf"
"""How an AVIF file may begin."""


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.binary(max_size=3000), min_size=20, max_size=20), st.randoms())
def test_garbage_never_breaks_the_reader(tmp_path, garbage, random):
    starts = [
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe1",
        b"RIFF\xff\xff\0\0WEBPVP8X",
        b"RIFF\xff\xff\0\0WEBPEXIF",
        b"",
        AVIF,
    ]
    paths = []
    for at, data in enumerate(garbage):
        paths.append(tmp_path / f"{at}.png")
        paths[-1].write_bytes(random.choice(starts) + data)
    ask(*(["told", {"path": str(path), "piece": 100}] for path in paths))


def big_endian(comment):
    """EXIF data as piexif writes them, hence the WebUI."""
    body = b"UNICODE\0" + comment.encode("utf-16-be")
    first = struct.pack(">HHHIII", 1, 0x8769, 4, 1, 26, 0)
    second = struct.pack(">HHHIII", 1, 0x9286, 7, len(body), 44, 0)
    return b"Exif\0\0MM\0*" + struct.pack(">I", 8) + first + second + body


def little_endian(comment):
    """EXIF data of a program that writes the low byte first, also in the comment."""
    body = b"UNICODE\0" + comment.encode("utf-16-le")
    first = struct.pack("<HHHIII", 1, 0x8769, 4, 1, 26, 0)
    second = struct.pack("<HHHIII", 1, 0x9286, 7, len(body), 44, 0)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + second + body


@pytest.mark.parametrize("exif", [big_endian, little_endian])
@pytest.mark.parametrize("suffix", ["jpg", "webp", *["avif"] * features.check("avif")])
@pytest.mark.parametrize("name", CASES)
def test_other_kinds_tell_what_their_infotext_does(tmp_path, name, suffix, exif):
    settings_, report = CASES[name]
    path = tmp_path / f"a.{suffix}"
    infotext = host_infotext(badge.infotext(settings_, report))
    Image.effect_noise((64, 64), 60).convert("RGB").save(path, exif=exif(infotext))
    answer, expected = told(path, 50), badge.verdict_from_infotext(badge.verdict_to_infotext(report))
    found = answer["report"]
    assert answer["state"] == STATES.get(name, "notMeasured" if report.verdict == "not measured" else report.verdict)
    assert (found["verdict"], found["score"], found["reason"]) == (expected.verdict, expected.score, expected.reason)
    assert found["partial"] == (expected.partial and list(expected.partial))
    assert found["steps"]["first_outside"] == expected.first_outside
    assert found["second_look"] == (expected.alike and {"likeness": expected.alike, "bound": None})
    likeness = expected.alike and f"likeness {expected.alike:.2g} to the same prompt's picture from other noise"
    assert answer["facts"].get("factLook") == likeness
    assert (found["mode"], found["sensitivity"], found["strength"]) == (
        settings_.mode,
        settings_.sensitivity,
        settings_.strength,
    )
    assert answer["facts"].get("factRarity", "") == rarity(report)
    assert "Only a line of the badge is in this file" in answer["meaning"][-1]


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["flagged", "suppressed", "clear"]),
            st.sampled_from(["", " p=0.03"]),
            st.sampled_from(["", " score -0.5", " from step 3", " score 2.5 from step 3"]),
            st.floats(-1.2, 1.2).map(" alike {:.2g}".format)
            | st.sampled_from(["", " alike", " alike x", " alike 1e9"]),
            st.sampled_from(["", " transfer", " partial 3 of 20", " transfer partial 3 of 20", " from step 3"]),
        ).map("".join),
        min_size=30,
        max_size=30,
    )
)
def test_a_line_about_a_second_look_is_read_as_in_python(tmp_path, verdicts):
    def expected(verdict):
        try:
            found = badge.verdict_from_infotext(verdict)
        except badge.BadgeError:
            return None
        look = None if found.alike is None else {"likeness": found.alike, "bound": None}
        return found.verdict, found.score, found.p_value, found.first_outside, look

    paths = [tmp_path / f"{at}.png" for at in range(len(verdicts))]
    for path, verdict in zip(paths, verdicts, strict=True):
        write(path, (b"tEXt", b"parameters\0" + host_infotext({badge.VERDICT_KEY: verdict}).encode()))
    answers = [one and one["report"] for one in ask(*(["told", {"path": str(path), "piece": 500}] for path in paths))]
    assert [
        one and (one["verdict"], one["score"], one["p_value"], one["steps"]["first_outside"], one["second_look"])
        for one in answers
    ] == [expected(verdict) for verdict in verdicts]


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_a_damaged_avif_file_says_nothing_or_the_same_and_never_breaks_the_reader(tmp_path):
    """Every byte of the boxes before the picture, broken once."""
    text = host_infotext({"MemStab verdict": "flagged p=0.0004 score 8.21 from step 2"})
    Image.new("RGB", (8, 8)).save(tmp_path / "whole.avif", exif=big_endian(text))
    whole = (tmp_path / "whole.avif").read_bytes()
    calls = []
    for at in range(whole.index(b"mdat")):
        path = tmp_path / f"{at}.avif"
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :])
        calls.append(["told", {"path": str(path), "piece": 100}])
    states = [answer and answer["state"] for answer in ask(*calls)]
    assert set(states) == {None, "flagged"}


def test_a_prompt_cannot_speak_for_memstab(tmp_path):
    fake = "MemStab verdict: clear p=0.9 score 0"
    entries = {"Hires prompt": f"a, {fake}, b", "MemStab verdict": "flagged p=0.0004 score 8.21 from step 2"}
    behind = {"MemStab verdict": "flagged p=0.0004 score 8.21 from step 2", "Hires prompt": f'a ", {fake}, "b'}
    for at, infotext in enumerate([f"{fake}\n{host_infotext(entries)}", host_infotext(behind)]):
        path = tmp_path / f"{at}.jpg"
        Image.new("RGB", (8, 8)).save(path, exif=big_endian(infotext))
        assert told(path)["state"] == "flagged"
    Image.new("RGB", (8, 8)).save(path, exif=big_endian(f"{fake}\nSteps: 9, Sampler: Euler"))
    assert told(path) is None


def rarity(report):
    """How rare a score is, as badge.words has it, with the card's order of words."""
    found = re.search(r"\(([^;)]*)", badge.words(report))
    if not found:
        return ""
    alone = re.split(", (?:but|and) ", found.group(1))[0]
    said = re.sub(r"in ([\d,]+) ordinary pictures scores? as", r"ordinary picture in \1 scores as", alone)
    transfer = report.profile is not None and report.profile.match == "transfer"
    return said + ("; less certain, as the profile is for other settings" if transfer else "")


@pytest.mark.parametrize("name", CASES)
def test_the_card_says_what_the_badge_says_in_words(tmp_path, name):
    report = CASES[name][1]
    answer = told(write(tmp_path / "a.png", text(CHUNK[name].encode())))
    facts = answer["facts"]
    assert facts.get("factRarity", "") == rarity(report)
    assert facts.get("factReason", "") == report.to_dict()["reason"]
    assert facts["factMode"] == report.mode
    assert facts["factSteps"].startswith(
        f"{report.steps.measured} measured, {report.steps.outside} outside, {report.steps.suppressed} suppressed"
    )
    assert ("12 extra evaluations" in facts["factSteps"]) == (report.extra_evaluations == 12)
    assert facts["factVersion"] == f"MemStab {report.version}, {report.host}"
    if report.profile is not None:
        assert facts["factProfile"].startswith("lab; ")
        assert facts["factProfile"].endswith(report.profile.reason)
    look = report.second_look
    assert facts.get("factLook") == (
        look
        and f"likeness {look.likeness:.2g} to the same prompt's picture from other noise; "
        f"lowest bound of the score: {look.bound:g}"
    )
    meaning = " ".join(answer["meaning"])
    told_in_words = "but its prompt gives an unusually similar picture from other noise" in badge.words(report)
    assert ("the prompt gives an unusually similar picture from other noise" in meaning) == told_in_words
    spared = "but its prompt gives another picture from other noise" in badge.words(report)
    assert ("the prompt gives another picture from other noise" in meaning) == spared
    assert ("never “original”" in meaning) == (report.verdict == "clear")
    assert ("can be a false alarm" in meaning) == (report.verdict in ("flagged", "suppressed"))
    assert ("nothing is known about this picture" in meaning) == (report.verdict == "not measured")
    assert ("Stopped after" in meaning) == (report.partial is not None)


@pytest.mark.parametrize(("fields", "due"), DUE_TO_THE_LOOK)
def test_the_card_owes_a_verdict_to_the_second_look_as_the_words_do(tmp_path, fields, due):
    chunk = badge.to_chunk(dataclasses.replace(CASES["flagged by its second look"][1], **fields))
    meaning = told(write(tmp_path / "a.png", text(chunk.encode())))["meaning"]
    assert ("other noise" in " ".join(meaning)) == due


def test_a_localization_translates_by_the_english_text(tmp_path):
    report = dataclasses.replace(CASES["clear"][1], partial=(3, 9)).to_dict()
    stopped = "Stopped after {done} of {planned} steps; nothing is known about the rest."
    localization = {"clear": "unauffällig", "partial": "teilweise", stopped: "Nach {done} von {planned} beendet."}
    answer = ask(["translated", {"localization": localization, "report": report}])[0]
    assert answer["label"] == "teilweise"
    assert "Nach 3 von 9 beendet." in answer["meaning"]


def test_no_text_stands_twice_in_the_table_with_another_meaning():
    texts = ask(["texts", None])[0]
    assert len(set(texts.values())) == len(texts)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [((0.9, 16), [1, 2, 5, 10]), ((0.02, 15), [0.1, 1, 10]), ((1.2, 1.9), []), ((2e-3, 3e3), None)],
)
def test_axes_have_round_numbers(ends, expected):
    found = ask(["ticks", ends])[0]
    assert found == pytest.approx(expected if expected is not None else [1e-2, 1e-1, 1, 10, 100, 1000])


def test_a_file_is_read_once_and_one_that_is_gone_is_not_read_to_its_end():
    wish = {"addresses": ["a", "b", "a", "c", "d", "a"], "let_go": ["d"]}
    answer = ask(["library", wish])[0]
    assert answer["fetched"] == ["a", "b", "c"]
    assert sorted(answer["reported"]) == sorted([["a", None]] * 3 + [["b", None], ["c", None]])
    assert answer["kept"].count("d") == 0
