"""What a prompt becomes before it is sent to a WebUI; tests/e2e/test_prompts.py asks the WebUI's own parser."""

import pytest

from lib_memstab.evidence.webui_prompt import escaped


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a cat, 4k", "a cat, 4k"),
        ("Wheel (16:10)", r"Wheel \(16:10\)"),
        ("[Vinyl] a\\b", r"\[Vinyl\] a\\b"),
        ("Bed BREAK AND Breakfast", r"Bed B\REAK A\ND Breakfast"),
        ("BRAND BREAKER AND", r"BRAND BREAKER A\ND"),
        ("Apollo: 13", r"Apollo: \13"),
        ("at 10:30", r"at 10:\30"),
        ("10:30 at night", "10:30 at night"),
        ("a <lora:x:1> b", r"a <\lora:x:1> b"),
        ("<b>bold</b>", "<b>bold</b>"),
    ],
)
def test_what_the_webui_would_read_otherwise_is_escaped(text, written):
    assert escaped(text) == written
