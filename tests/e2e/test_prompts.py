"""The WebUI's own parser reads an escaped prompt as plain text of weight 1. Needs its folder, not its running."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib_memstab.evidence.webui_prompt import COMMENT, edited, escaped, together
from tests.e2e.conftest import place_of

pytestmark = pytest.mark.e2e

PARSER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from modules import extra_networks, prompt_parser
for line in sys.stdin:
    text, networks = extra_networks.parse_prompt(json.loads(line))
    parts, flat, _ = prompt_parser.get_multicond_prompt_list([text])
    schedules = prompt_parser.get_learned_conditioning_prompt_schedules(flat, 20)
    read = [[prompt_parser.parse_prompt_attention(part) for _, part in one] for one in schedules]
    print(json.dumps({"networks": sorted(networks), "weights": [w for _, w in parts[0]], "read": read}), flush=True)
"""
PIECES = ("(", ")", "[", "]", ":", "|", "\\", "AND", "BREAK", "<lora:x:1>", "<b>", "1.5", " 13", " ", "\n", "cat", "é")


@pytest.fixture(scope="module")
def read(request):
    """What the WebUI makes of a prompt."""
    place = place_of(request.config)
    if place.startswith("http"):
        pytest.skip("the parser is asked in the WebUI's folder, and this is an address")
    python = os.environ.get("MEMSTAB_WEBUI_PYTHON") or str(Path(place) / "venv" / "bin" / "python")
    with subprocess.Popen(
        [python, "-c", PARSER, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=place, text=True
    ) as asked:

        def ask(text):
            asked.stdin.write(json.dumps(text) + "\n")
            asked.stdin.flush()
            return json.loads(asked.stdout.readline())

        yield ask
        asked.stdin.close()


def test_the_parser_that_is_asked_does_read_emphasis(read):
    assert read("(a) AND b:2 <lora:x:1>")["weights"] == [1.0, 2.0]
    assert read("(a)")["read"] == [[[["a", 1.1]]]]
    assert read("<lora:x:1>")["networks"] == ["lora"]
    assert len(read("[a:b:0.5]")["read"][0]) == 2


PROMPTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)
LISTED = PROMPTS.map(
    lambda text: "".join(one for one in text if one != COMMENT and not "\ud800" <= one <= "\udfff").strip()
)
"""As a list of prompts has them."""


@settings(max_examples=400, deadline=None)
@given(PROMPTS)
@example("Apollo: 13")
@example("a (16:10) [b:c:0.5] AND d BREAK e <lora:f:1> \\( \\")
@example(": .5\n")
@example("\\AND")
def test_an_escaped_prompt_is_plain_text_of_weight_1(read, text):
    text = "".join(sign for sign in text if not "\ud800" <= sign <= "\udfff" and sign != COMMENT)
    found = read(escaped(text))
    assert found["networks"] == []
    assert found["weights"] == [1.0]
    # The WebUI drops blanks at the end, where they are no words.
    assert found["read"] == [[[[text.rstrip(), 1.0]]]] or (not text.strip() and found["read"][0][0][0][1] == 1.0)


@settings(max_examples=400, deadline=None)
@given(LISTED.filter(bool), LISTED.filter(bool))
@example("Apollo: 13", "a [b:c|d] (e:1.5)")
def test_an_edited_prompt_is_the_first_text_and_then_the_other(read, first, then):
    found = read(edited(first, then, 0.3))
    assert found["networks"] == []
    assert found["weights"] == [1.0]
    assert found["read"] == [[[[first, 1.0]], [[then, 1.0]]]]


@settings(max_examples=400, deadline=None)
@given(LISTED.filter(bool), LISTED.filter(bool))
@example("Apollo: 13", "BRAND AND: 2")
def test_prompts_together_are_as_many_parts_of_weight_1(read, one, other):
    found = read(together(one, other))
    assert found["networks"] == []
    assert found["weights"] == [1.0, 1.0]
    assert [[text.strip() for text, _ in part[0]] for part in found["read"]] == [[one], [other]]
