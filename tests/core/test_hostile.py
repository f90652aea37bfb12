"""Files made to harm: each is refused with its reason, and no change of a profile gets through as something else."""

import json
from pathlib import Path

import pytest

from lib_memstab.core import profile as profiles
from lib_memstab.core.profile import MAX_BYTES, ProfileError, from_bytes, load
from tests.core.test_profile import GOLDENS

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

HOSTILE = Path(__file__).resolve().parents[1] / "golden" / "hostile"
REASONS = {
    "boolean-as-number": "bands.count' should be int, not bool",
    "byte-order-mark": "Unexpected UTF-8 BOM",
    "counts-that-do-not-add-up": "add up to the peaks",
    "edited": "its checksum does not fit",
    "future-schema": "its schema is 2 and this MemStab reads schema 1: update MemStab",
    "future-schema-with-more": "its schema is 2 and this MemStab reads schema 1: update MemStab",
    "huge-number": "region.peaks' should be float, not float -inf",
    "huge-whole-number": "is not a usable profile",
    "key-twice": "a key stands twice",
    "list-as-object": "region.bands' should be tuple, not dict",
    "modes-null": "'modes' should be Mapping, not NoneType",
    "name-absolute": "is no name for a profile",
    "name-escape-codes": r"'checkpoint.name' should be str, not str '\x1b[2Jdreamy'",
    "name-nul-byte": r"'name' should be str, not str 'dreamy\x00.json'",
    "name-nul-device": "'NUL' is no name for a profile",
    "name-traversal": "'../../webui-user' is no name for a profile",
    "nan": "NaN is not a number JSON allows",
    "nested": "is not a usable profile",
    "no-checksum": "its checksum does not fit",
    "number-as-text": "region.peaks' should be float, not str '-0.5'",
    "reordered": "its checksum does not fit",
    "schema-as-text": "'schema' is missing or not a whole number",
    "unknown-field": "'pickle' is unknown",
}
CONTENTS = [path.read_bytes().replace(b"\r\n", b"\n") for path in GOLDENS]

texts = st.text(max_size=5) | st.sampled_from(["NUL", "../x", "\0", "\ud800", "NaN"])
numbers = st.integers() | st.floats() | st.sampled_from([10**400, 2**63, -0.0, 1e308])
anything = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def test_every_file_of_the_corpus_has_its_reason():
    assert {path.stem for path in HOSTILE.iterdir()} == set(REASONS)


@pytest.mark.parametrize("name", REASONS)
def test_a_hostile_file_is_refused_with_its_reason(name):
    with pytest.raises(ProfileError) as caught:
        load(HOSTILE / f"{name}.json")
    assert REASONS[name] in str(caught.value)
    assert len(str(caught.value)) < 700
    assert "\x1b" not in str(caught.value)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "large.json"
    path.write_bytes(CONTENTS[0] + b" " * MAX_BYTES)
    with pytest.raises(ProfileError, match="larger than 1048576 bytes"):
        load(path)


def places(content, here=()):
    """The path of every value in plain data."""
    yield here
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield from places(value, (*here, key))


def changed(content, place, value):
    """Plain data with another value at a path."""
    if not place:
        return value
    copy = content.copy()
    copy[place[0]] = changed(content[place[0]], place[1:], value)
    return copy


@hypothesis.settings(max_examples=400, deadline=None)
@hypothesis.given(st.sampled_from(CONTENTS), st.data())
def test_another_type_anywhere_is_refused_or_reads_as_what_it_says(content, data):
    plain = json.loads(content)
    place = data.draw(st.sampled_from(list(places(plain))))
    wrong = changed(plain, place, data.draw(anything))
    if isinstance(wrong, dict) and data.draw(st.booleans(), label="with a right checksum"):
        wrong.pop("checksum", None)
        try:
            written = profiles._file(wrong)
        except ValueError:  # not finite
            return
    else:
        written = json.dumps(wrong).encode()
    try:
        read = from_bytes(written)
    except ProfileError:
        return
    again = from_bytes(read.to_bytes())
    assert again.checksum == read.checksum
    assert json.loads(written) == json.loads(profiles._file(profiles._fields_of(json.loads(written), read._content())))


@st.composite
def corrupted(draw):
    """A profile's bytes, cut, spliced, or with bytes overwritten."""
    content = bytearray(draw(st.sampled_from(CONTENTS)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(start + 40, len(content))))
        content[start:end] = draw(st.binary(max_size=20) | st.sampled_from([b"", b"[", b'"', b"0", b"\r\n", b"null"]))
    return bytes(content[: draw(st.none() | st.integers(0, len(content)))])


@hypothesis.settings(max_examples=400, deadline=None)
@hypothesis.given(corrupted())
def test_corrupted_bytes_are_refused_or_still_the_same_profile(content):
    try:
        known = [load(path).checksum for path in GOLDENS]
        assert from_bytes(content).checksum in known
    except ProfileError:
        return
