"""MemStab in other languages: nothing is missing, nothing left over, and the user's own localization wins."""

import ast
import importlib
import json
import re
import sys
import types
from pathlib import Path

import pytest

from lib_memstab.host import wording
from tests.javascript.test_javascript import NODE, ask

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "localizations").iterdir())
PAGES = (
    "accordion",
    "preset_row",
    "tab/page",
    "tab/learned",
    "tab/profiles",
    "tab/forgetting",
    "tab/watching",
    "tab/audits",
    "tab/auditing",
    "tab/evidence",
    "tab/verifying",
    "tab/attacking",
    "tab/working",
    "tab/works",
    "tab/extracting",
)
SHOWN = {"Button", "Tab", "HTML", "Checkbox", "Textbox", "_choice", "sentence"}
"""Calls whose first argument people read."""
FIXED = re.compile(r"(?<![a-z])\d+(?![a-z])|\[[^\]]+\]|<\w+>|MemStab")
"""What every language writes alike."""
PLACE = re.compile(r"\{\w+\}")
"""Where the gallery's scripts put a name or a number."""


def pairs_of(file):
    def once(pairs):
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    return json.loads(file.read_text("utf-8"), object_pairs_hook=once)


def test_there_are_three_languages():
    assert [file.name for file in FILES] == ["de (MemStab).json", "ja (MemStab).json", "zh-Hans (MemStab).json"]


@pytest.fixture(scope="module")
def gallery():
    """Every text of the gallery's badges and card."""
    if NODE is None:
        pytest.skip("the gallery's texts are in a script, which needs node")
    return list(ask(["texts", None])[0].values())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem[:2])
def test_every_text_of_the_pages_is_translated(file):
    told = pairs_of(file)
    assert set(wording.visible()) - set(told) == set()
    for text, translated in told.items():
        assert translated.strip() == translated != ""
        assert set(FIXED.findall(text)) <= set(FIXED.findall(translated))
        assert sorted(PLACE.findall(text)) == sorted(PLACE.findall(translated))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem[:2])
def test_every_text_of_the_gallery_is_translated_and_none_is_left_over(file, gallery):
    told = pairs_of(file)
    assert set(gallery) - set(told) == set()
    assert set(told) - {*wording.visible(), *gallery} == set()


@pytest.mark.parametrize("page", PAGES)
def test_pages_take_their_texts_from_where_translators_find_them(page):
    tree = ast.parse((ROOT / "lib_memstab" / "host" / f"{page}.py").read_text("utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    shown = [keyword.value for call in calls for keyword in call.keywords if keyword.arg in ("label", "info", "value")]
    for call in calls:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        shown += call.args[:1] if name in SHOWN else []
    literals = [
        ast.unparse(one) for one in shown if isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value
    ]
    assert literals == []


@pytest.fixture
def localize(monkeypatch):
    modules = types.ModuleType("modules")
    modules.localization = types.ModuleType("modules.localization")
    monkeypatch.setitem(sys.modules, "modules", modules)
    monkeypatch.setitem(sys.modules, "modules.localization", modules.localization)
    monkeypatch.delitem(sys.modules, "lib_memstab.host.localize", raising=False)
    return importlib.import_module("lib_memstab.host.localize")


@pytest.mark.parametrize(
    ("name", "own"),
    [
        *((name, "zh-Hans") for name in ("zh_CN", "zh-Hans (Stable)", "zh-Hans", "zh", "chinese")),
        *((name, None) for name in ("zh_TW", "zh-Hant", "zh-TW (Stable)", "fr_FR", "java", "design", "None")),
        *((name, "ja") for name in ("ja_JP", "ja", "ja-JP", "Japanese")),
        *((name, "de") for name in ("de_DE", "de", "German")),
    ],
)
def test_a_localization_of_the_language_gets_memstabs_words_before_its_own(localize, name, own):
    listed = {name: ["theirs.json"]}
    for _ in range(2):
        localize.join(listed)
    names = [Path(file).name for file in listed[name]]
    assert names == ([f"{own} (MemStab).json"] if own else []) + ["theirs.json"]
    assert all(Path(file).is_file() for file in listed[name][:-1])


def test_memstabs_own_files_are_taken_once(localize):
    listed = {file.stem: [str(file)] for file in FILES}
    before = {name: list(files) for name, files in listed.items()}
    localize.join(listed)
    assert listed == before
