"""Profile files: what is saved comes back, and nothing else is accepted."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from lib_memstab.core import profile as profiles
from lib_memstab.core.measurement import REFERENCE_GUIDANCE
from lib_memstab.core.profile import (
    STATISTIC,
    Calibration,
    Checkpoint,
    Covered,
    Latent,
    Profile,
    ProfileError,
    Statistic,
    Versions,
    check_name,
    from_bytes,
    load,
    save,
)
from lib_memstab.core.region import Band, Conditions, Likeness, Region

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = GOLDEN, EARLIER, UNLOOKED, OVER_SIGMA, BOTH_ENDS, AS_THEY_ARE, BOTH_SIDES = tuple(
    ROOT / "tests" / "golden" / f"profile{form}.json"
    for form in ("", "-earlier", "-without-likeness", "-over-sigma", "-mean-of-ends", "-as-they-are", "-both-sides")
)
SHA256 = "0123456789abcdef" * 4

COVERED = Covered(
    samplers=("Euler", "DPM++ 2M"),
    schedulers=("Automatic",),
    steps=(20, 30),
    guidance=(7.0, 7.5),
    sizes=((64, 64), (64, 96)),
    trajectories=16,
    prompts="320 ordinary prompts of MemStab",
)
REGION = Region(
    log_sigma=np.array([-2.5, -0.125, 1.0, 2.5]),
    bands=(
        Band(
            Conditions(7.0),
            np.array([0.1, 0.0, -0.3, 1e-17]),
            np.array([0.05, 0.07, 1 / 3, 1.0]),
            8,
            Likeness(0.125, 0.0625),
        ),
        Band(Conditions(7.5), np.array([0.2, 0.1, -0.1, 2.0]), np.array([0.06, 0.08, 2 / 3, 1.5]), 8),
    ),
    peaks=np.arange(16) / 8 - 0.5,
)
PROFILE = Profile(
    name="dreamy v1.0 (pruned)",
    checkpoint=Checkpoint("dreamy – 夢.safetensors", SHA256),
    latent=Latent(4),
    prediction="epsilon",
    created="2026-01-31",
    versions=Versions("0.1.0", "2.1.2", "WebUI v1.10.1"),
    statistic=STATISTIC,
    modes={"txt2img": Calibration(REGION, COVERED)},
)
finite = st.floats(-1e6, 1e6)
lines = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=30)
versions = st.builds(Versions, lines, lines, lines)


@st.composite
def regions(draw):
    count = draw(st.integers(2, 6))
    places = sorted(draw(st.sets(finite, min_size=count, max_size=count)))
    means = st.lists(finite, min_size=count, max_size=count).map(np.array)
    spreads = st.lists(st.floats(1e-9, 1e6), min_size=count, max_size=count).map(np.array)
    kinds = st.builds(Conditions, st.floats(1, 30), st.floats(0.01, 200), st.booleans())
    sampled = sorted(draw(st.sets(kinds, min_size=1, max_size=4)), key=Conditions.key)
    shares = draw(st.none() | st.lists(st.integers(8, 12), min_size=len(sampled), max_size=len(sampled)))
    counts = shares or [None] * len(sampled)
    likeness = st.none() | st.builds(Likeness, st.floats(-2.99, 2.99), st.floats(1e-3, 1e6))
    bands = tuple(
        Band(kind, draw(means), draw(spreads), own, draw(likeness)) for kind, own in zip(sampled, counts, strict=True)
    )
    fewest, most = (8, 20) if shares is None else (sum(shares), sum(shares))
    return Region(np.array(places), bands, np.array(sorted(draw(st.lists(finite, min_size=fewest, max_size=most)))))


@st.composite
def calibrations(draw):
    covered = Covered(
        samplers=tuple(draw(st.lists(lines, min_size=1, max_size=3))),
        schedulers=tuple(draw(st.lists(lines, min_size=1, max_size=2))),
        steps=tuple(sorted(draw(st.tuples(st.integers(1, 150), st.integers(1, 150))))),
        guidance=tuple(sorted(draw(st.tuples(st.floats(0, 30), st.floats(0, 30))))),
        sizes=tuple(draw(st.lists(st.tuples(st.integers(1, 512), st.integers(1, 512)), min_size=1, max_size=3))),
        trajectories=draw(st.integers(8, 10_000)),
        prompts=draw(lines),
        loras=tuple(draw(st.lists(lines, max_size=2))),
    )
    return Calibration(draw(regions()), covered)


PROFILES = st.builds(
    Profile,
    name=st.from_regex(r"[a-b][A-Za-z0-9 ._+()-]{0,20}[0-9]", fullmatch=True),
    checkpoint=st.builds(Checkpoint, lines, st.none() | st.just(SHA256)),
    latent=st.builds(Latent, st.integers(1, 1024)),
    prediction=st.sampled_from(["epsilon", "v_prediction"]),
    created=st.dates().map(lambda day: day.isoformat()),
    versions=versions,
    statistic=st.builds(
        Statistic,
        reference_guidance=st.floats(1, 100),
        over=st.sampled_from(["sigma", "square root of sigma"]),
        smaller_end=st.booleans(),
        evened=st.booleans(),
        upwards=st.booleans(),
    ),
    modes=st.dictionaries(st.sampled_from(["txt2img", "img2img"]), calibrations(), min_size=1),
)


def arrays(region):
    """Everything a region holds, in order."""
    rows = [
        row
        for band in region.bands
        for row in (np.array(band.conditions.key(), dtype=np.float64), band.mean, band.deviation)
    ]
    return [region.log_sigma, *rows, region.peaks]


def region_of(content):
    return content["modes"]["txt2img"]["region"]


def rewritten(change):
    """A profile file with a right checksum whose content was changed."""
    content = PROFILE.to_dict()
    change(content)
    del content["checksum"]
    content["checksum"] = profiles.hashlib.sha256(profiles._canonical(content).encode()).hexdigest()
    return json.dumps(content).encode()


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(PROFILES)
def test_what_is_saved_comes_back_float_by_float(tmp_path_factory, profile):
    path = save(profile, tmp_path_factory.mktemp("profiles"))
    again = load(path)
    assert again.to_dict() == profile.to_dict()
    assert again.checksum == profile.checksum
    for mode, calibration in profile.modes.items():
        before, after = arrays(calibration.region), arrays(again.modes[mode].region)
        assert len(after) == len(before)
        for one, other in zip(after, before, strict=True):
            assert one.dtype == np.float64
            np.testing.assert_array_equal(one, other)
        kept = [[band.likeness for band in one.region.bands] for one in (again.modes[mode], calibration)]
        assert kept[0] == kept[1]
        for band in again.modes[mode].region.bands:
            assert [type(value) for value in band.conditions.key()] == [bool, float, float]
        assert again.modes[mode].covered == calibration.covered


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(st.data())
def test_any_wrong_byte_is_refused(data):
    content = bytearray(PROFILE.to_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ProfileError, match=r"re-calibrate|update MemStab"):
        from_bytes(bytes(content))


def test_any_truncation_is_refused():
    content = PROFILE.to_bytes()
    for length in range(len(content)):
        with pytest.raises(ProfileError):
            from_bytes(content[:length])


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(content):
    with pytest.raises(ProfileError):
        from_bytes(content)


def test_a_checkout_with_the_line_ends_of_windows_is_the_same_profile():
    assert from_bytes(PROFILE.to_bytes().replace(b"\n", b"\r\n")).checksum == PROFILE.checksum


def test_the_golden_file_is_written_and_read_byte_for_byte():
    assert GOLDEN.read_bytes().replace(b"\r\n", b"\n") == PROFILE.to_bytes()
    assert load(GOLDEN).to_dict() == PROFILE.to_dict()


def test_a_file_of_the_earlier_form_is_read_and_saved_in_todays(tmp_path):
    earlier = load(EARLIER)
    region = earlier.modes["txt2img"].region
    assert [band.count for band in region.bands] == [None, None]
    assert earlier.modes["txt2img"].covered.loras == ()
    assert earlier.to_bytes() != EARLIER.read_bytes()
    again = load(save(earlier, tmp_path))
    assert again.checksum == earlier.checksum
    for before, after in zip(arrays(region), arrays(again.modes["txt2img"].region), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_file_of_before_second_looks_has_no_likeness_and_is_the_same_else():
    earlier = load(UNLOOKED).modes["txt2img"].region
    assert [band.likeness for band in earlier.bands] == [None, None]
    assert earlier.likeness(7.5) is None
    without = tuple(dataclasses.replace(band, likeness=None) for band in REGION.bands)
    for before, after in zip(arrays(earlier), arrays(dataclasses.replace(REGION, bands=without)), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_file_of_the_earlier_form_is_as_strictly_read(tmp_path):
    data = EARLIER.read_bytes().replace(b"\r\n", b"\n")
    assert b"loras" not in data
    for wrong in (data.replace(b"7.5", b"7.6"), data.replace(b'"steps":[20', b'"steps":[ 20'), data[:-1]):
        assert wrong != data
        with pytest.raises(ProfileError, match="damaged or was edited"):
            from_bytes(wrong)


def test_a_checksum_is_over_the_files_content_whatever_its_form():
    for path in GOLDENS:
        content = json.loads(path.read_bytes())
        stated = content.pop("checksum")
        plain = json.dumps(content, sort_keys=True, separators=(",", ":"))
        assert profiles.hashlib.sha256(plain.encode()).hexdigest() == stated


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_the_golden_files_follow_the_published_schema(path):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "profiles" / "profile.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    content = json.loads(path.read_bytes())
    validator.validate(content)
    for name in content:
        assert not validator.is_valid({key: value for key, value in content.items() if key != name})
    assert not validator.is_valid({**content, "more": 1})


def test_the_statistic_is_measured_at_the_reference_guidance():
    assert STATISTIC.reference_guidance == REFERENCE_GUIDANCE


@pytest.mark.parametrize("path", [EARLIER, UNLOOKED, OVER_SIGMA], ids=lambda path: path.stem)
def test_a_file_that_does_not_say_along_what_the_path_is_walked_means_sigma(path):
    assert b'"over"' not in path.read_bytes()
    assert load(path).statistic.over == "sigma"
    assert load(path).statistic != STATISTIC


@pytest.mark.parametrize("path", [OVER_SIGMA, BOTH_ENDS], ids=lambda path: path.stem)
def test_a_file_that_does_not_say_by_which_norm_a_step_counts_is_of_another_statistic(path):
    assert b'"smaller_end"' not in path.read_bytes()
    assert not load(path).statistic.smaller_end
    assert load(path).statistic != STATISTIC


def test_a_file_that_does_not_say_what_a_likeness_is_of_is_of_another_statistic():
    assert b'"evened"' not in AS_THEY_ARE.read_bytes()
    assert load(AS_THEY_ARE).statistic == dataclasses.replace(STATISTIC, evened=False, upwards=False)


def test_a_file_that_does_not_say_what_a_deviation_is_of_is_of_another_statistic():
    assert b'"upwards"' not in BOTH_SIDES.read_bytes()
    assert load(BOTH_SIDES).statistic == dataclasses.replace(STATISTIC, upwards=False)


def test_every_field_is_described_in_the_schema():
    schema = json.loads((ROOT / "profiles" / "profile.schema.json").read_text("utf-8"))

    def undescribed(part, where):
        for name, field in part.get("properties", {}).items():
            if "description" not in field:
                yield f"{where}.{name}"
            yield from undescribed(field, f"{where}.{name}")

    assert not [
        *undescribed(schema, ""),
        *(hit for name, part in schema["$defs"].items() for hit in undescribed(part, name)),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(schema=2), "schema is 2 .* update MemStab"),
        (lambda content: content.update(schema=True), "'schema' is missing or not a whole number"),
        (lambda content: content.pop("schema"), "'schema' is missing"),
        (lambda content: content.update(more=1), "'more' is unknown"),
        (lambda content: content.pop("latent"), "'latent' is missing"),
        (lambda content: content["latent"].pop("scale"), "'latent.scale' is missing"),
        (lambda content: content["latent"].update(channels=4.0), None),
        (lambda content: content["latent"].update(channels=True), "'latent.channels' should be int"),
        (lambda content: content["latent"].update(channels=0), "1 to 1024 channels"),
        (lambda content: content["checkpoint"].update(sha256="AB"), "64 lower-case"),
        (lambda content: content["checkpoint"].update(name=["x"]), "'checkpoint.name' should be str"),
        (lambda content: content["checkpoint"].update(name="a\x1b[2J"), "'checkpoint.name' should be str"),
        (lambda content: content.update(name="../../autoexec"), "no name for a profile"),
        (lambda content: content.update(prediction="x0"), "'prediction' should be 'epsilon' or 'v_prediction'"),
        (lambda content: content.update(created="2026-02-30"), "YYYY-MM-DD"),
        (lambda content: content["statistic"].update(name="magnitude"), "'statistic.name' should be 'path length'"),
        (lambda content: content["statistic"].update(over="time"), "'statistic.over' should be 'sigma' or"),
        (lambda content: content.update(modes={}), "at least one of"),
        (lambda content: content["modes"].update(inpaint={}), "should be 'txt2img' or 'img2img'"),
        (lambda content: region_of(content)["bands"][0]["mean"].append(1), "a mean and deviation per noise level"),
        (lambda content: region_of(content)["bands"][1]["deviation"].pop(), "a mean and deviation per noise level"),
        (lambda content: region_of(content)["bands"][0]["mean"].__setitem__(0, None), "region.bands.mean' should be"),
        (lambda content: region_of(content)["bands"][0].update(mean=[1, 1, 1, 10**400]), "should be float"),
        (lambda content: region_of(content)["bands"][1].update(deviation=[1, 1, 0, 1]), "above zero"),
        (lambda content: region_of(content)["bands"][1].update(more=1), "region.bands.more' is unknown"),
        (lambda content: region_of(content)["bands"][1].update(count=9), "add up to the peaks"),
        (lambda content: region_of(content)["bands"][1].update(count=None), "add up to the peaks"),
        (lambda content: region_of(content)["bands"][1].update(count=8.5), "bands.count' should be int"),
        (lambda content: region_of(content)["bands"][0]["likeness"].update(deviation=0), "deviation of 0.001 or more"),
        (lambda content: region_of(content)["bands"][0]["likeness"].update(deviation=1e-9), "deviation of 0.001"),
        (lambda content: region_of(content)["bands"][0]["likeness"].update(mean=-1e300), "a mean from -3 to 3"),
        (
            lambda content: region_of(content)["bands"][0]["likeness"].update(mean=None),
            "likeness.mean' should be float",
        ),
        (lambda content: region_of(content)["bands"][0]["likeness"].update(more=1), "likeness.more' is unknown"),
        (lambda content: region_of(content)["bands"][0]["likeness"].pop("mean"), "likeness.mean' is missing"),
        (lambda content: region_of(content)["bands"][0].update(likeness=0.1), "likeness' should be"),
        (lambda content: region_of(content)["bands"][1]["conditions"].pop("start"), "conditions.start' is missing"),
        (
            lambda content: region_of(content)["bands"][1]["conditions"].update(guidance="7.5"),
            "guidance' should be float",
        ),
        (lambda content: region_of(content)["bands"][1]["conditions"].update(guidance=7), "rising .*bands"),
        (lambda content: region_of(content)["bands"].reverse(), "rising .*bands"),
        (lambda content: region_of(content).update(bands=[]), "a mean and deviation per noise level"),
        (lambda content: region_of(content).update(bands={}), "region.bands' should be"),
        (lambda content: region_of(content).update(mean=[1, 1, 1, 1]), "region.mean' is unknown"),
        (lambda content: region_of(content)["log_sigma"].reverse(), "rising noise levels"),
        (lambda content: region_of(content)["peaks"].reverse(), "rising .*peaks"),
        (lambda content: content["modes"]["txt2img"]["covered"].update(steps=[30, 20]), r"steps are \[low, high\]"),
        (lambda content: content["modes"]["txt2img"]["covered"].update(steps=[30]), "covered.steps' should be"),
        (lambda content: content["modes"]["txt2img"]["covered"].update(sizes=[[64, 64, 64]]), "covered.sizes'"),
        (lambda content: content["modes"]["txt2img"]["covered"].update(samplers=[]), "at least one sampler"),
        (lambda content: content["modes"]["txt2img"]["covered"].update(loras="ink"), "covered.loras' should be"),
    ],
)
def test_a_wrong_field_is_named(change, message):
    with pytest.raises(ProfileError, match=message) as caught:
        from_bytes(rewritten(change), "profiles/x.json")
    assert str(caught.value).startswith("profiles/x.json ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"schema": 1, "schema": 1}', "stands twice"),
        (b'{"schema": NaN}', "NaN is not a number"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "not JSON|update MemStab"),
        (b'{"schema": 1, "latent": ' + b"[" * 200_000, "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b" " * (profiles.MAX_BYTES + 1), "larger than 1048576 bytes"),
    ],
)
def test_a_hostile_file_is_refused_with_its_reason(tmp_path, content, message):
    path = tmp_path / "hostile.json"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=message):
        load(path)
    assert path.read_bytes() == content


def test_a_missing_file_and_a_folder_are_profile_errors(tmp_path):
    for path in (tmp_path / "none.json", tmp_path, Path("a\0b")):
        with pytest.raises(ProfileError, match="cannot be read"):
            load(path)


def test_an_interrupted_save_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = save(PROFILE, tmp_path)

    def fail(handle):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ProfileError, match="disk full"):
        save(dataclasses.replace(PROFILE, created="2027-01-01"), tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    assert load(path).created == PROFILE.created


def test_a_profile_that_would_be_too_large_is_not_saved(tmp_path):
    bands = tuple(dataclasses.replace(band, count=100_000) for band in REGION.bands)
    huge = dataclasses.replace(REGION, bands=bands, peaks=np.arange(200_000) / 7)
    with pytest.raises(ProfileError, match="larger than"):
        save(dataclasses.replace(PROFILE, modes={"txt2img": Calibration(huge, COVERED)}), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a", "SDXL 1.0 + vae (fp16)", "x" * 80, "console", "auto2"])
def test_safe_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 81,
        ".hidden",
        "a/b",
        "a\\b",
        "..",
        "a.",
        "a ",
        " a",
        "a\n",
        "a:b",
        "a,b",
        'a"',
        "con",
        "NUL.txt",
        "com1 .x",
        "Auto",
        "夢",
    ],
)
def test_names_that_some_system_would_not_take(name):
    with pytest.raises(ProfileError, match="no name for a profile"):
        check_name(name)
