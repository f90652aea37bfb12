"""Prompts written so that a WebUI reads them as plain text of weight 1, alone or joined in its own syntax.

Read off AUTOMATIC1111's WebUI 1.10.1: `prompt_parser.py` and `extra_networks.py`. Three things in a prompt mean
something to it that no writing changes: `#` opens a comment, names of textual-inversion embeddings are replaced by
them, and other extensions have a syntax of their own. `COMMENT` is there for who sends prompts to check.
"""

from __future__ import annotations

import re
from typing import Final

COMMENT: Final = "#"
"""What opens a comment, while the WebUI's setting "Enable comments" is on."""

COMMENT_SETTING: Final = "enable_prompt_comments"
"""The WebUI's name of that setting; where it is off, or not there, `#` is text."""

EMPHASIS_SETTING: Final = "emphasis"
"""The WebUI's name of the setting "Emphasis mode": where it is "None", a backslash is text, and stays in the prompt."""

_SIGNS = re.compile(r"[\\()\[\]]")
_WORDS = re.compile(r"\b(A)(ND)\b|\b(B)(REAK)\b")
_NETWORK = re.compile(r"<(?=\w+:)")
_PARTS = re.compile(r"[:|]")
_WEIGHT = re.compile(r"(:\s*)(?=[-+]?(?:\d+\.?|\d*\.\d+)\s*$)")


def escaped(text: str) -> str:
    r"""The prompt that the WebUI reads as `text`.

    Brackets (emphasis, editing, alternation) and backslashes get a backslash before them. A backslash before any other
    letter is dropped by the WebUI, but only after it has looked for `AND`, `BREAK`, `<lora:name:1>` and a weight at the
    end (`Apollo: 13`): one inside each of these makes them words.
    """
    text = _SIGNS.sub(r"\\\g<0>", text)
    text = _NETWORK.sub(r"<\\", text)
    text = _WORDS.sub(lambda found: "\\".join(part for part in found.groups() if part), text)
    return _WEIGHT.sub(r"\1\\", text)


def edited(first: str, then: str, share: float) -> str:
    """`[first:then:share]`: the first text until that share of the steps is done, then the other, each of weight 1."""
    one, other = (_PARTS.sub(r"\\\g<0>", escaped(text)) for text in (first, then))
    return f"[{one}:{other}:{share:g}]"


def together(*texts: str) -> str:
    """`a AND b`: each text pulls by itself, with weight 1."""
    return " AND ".join(map(escaped, texts))
