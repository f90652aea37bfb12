"""The pages for people hold together: links lead somewhere, commands exist, quoted messages are the program's own."""

import ast
import re
from pathlib import Path

import pytest

from lib_memstab.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
PROGRAM = ROOT / "lib_memstab"


def anchors(page):
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_lead_somewhere(page):
    for target in LINK.findall(page.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_every_page_is_reached_from_the_readme():
    readme = PAGES[0].read_text("utf-8")
    assert all(f"](docs/{page.name})" in readme for page in PAGES[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_that_are_named_exist(page):
    assert set(re.findall(r"python3? -m lib_memstab ([a-z]+)", page.read_text("utf-8"))) <= set(COMMANDS)


def test_what_troubleshooting_quotes_is_what_the_program_says():
    part = PAGES[0].read_text("utf-8").partition("## When something is not as it should be")[2].partition("\n## ")[0]
    trees = [ast.parse(file.read_text("utf-8")) for file in PROGRAM.rglob("*.py")]
    said = " ".join(
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    symptoms = [row.split("|")[1] for row in part.splitlines() if row.startswith("| ")]
    quoted = [text for symptom in symptoms for text in re.findall(r"\*([^*]+)\*", symptom)]
    assert len(quoted) > 15
    pieces = [piece.strip(" ,") for text in quoted for piece in text.split("…")]
    assert [piece for piece in pieces if piece not in said] == []
