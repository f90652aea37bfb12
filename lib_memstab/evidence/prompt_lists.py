"""The field's prompt lists, read as their authors publish them; what is in a file decides how it is read.

| list | shape |
|---|---|
| Wen et al. 2024, and many since | JSONL: caption, index, url |
| Webster 2023 | parquet: caption, index, url, overfit_type |
| Hintersdorf et al. 2024 | CSV parted by `;`: Caption;URL;type;mean_sscd;max_sscd;Index |
| MemBench (Hong et al. 2024) | CSV parted by `,`: an index without a name, prompt, urls as a Python list |
| anyone | text, one prompt a line |

Files may be hostile: nothing in them is run, and their size, their prompts' and their lists' is limited.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

from lib_memstab.core.plain import PlainDataError, parse_object
from lib_memstab.evidence.prompt_tables import Broken, Record, heading, read_parquet, read_table

MAX_BYTES: Final = 64 << 20
"""Largest list, in bytes."""

MAX_PROMPTS: Final = 200_000
"""Longest list."""

MAX_PROMPT: Final = 4000
"""Longest prompt, in characters."""

MAX_LITERAL: Final = 20_000
"""Longest list of addresses in one cell, in characters."""

TEXTS, KINDS, ADDRESSES = ("caption", "prompt"), ("type", "kind", "overfit_type"), ("url", "urls")
"""Names of the columns that are read, and `INDICES`; others are left alone."""

INDICES = ("index", "")

KIND_WORDS: Final = {
    "vm": "verbatim",
    "mv": "verbatim",
    "verbatim": "verbatim",
    "tm": "template",
    "tv": "template",
    "template": "template",
    "rv": "retrieved",
    "n": "none",
}
"""What the lists' own short words for kinds stand for; another word is kept as it is."""

_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_STRING = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_FLAT_LIST = re.compile(rf"\s*\[\s*(?:{_STRING}\s*(?:,\s*{_STRING}\s*)*,?)?\s*\]\s*")
_LOOKED_AT = 20


class PromptListError(ValueError):
    """A list that cannot be used at all; the message names the file and says what to do."""


@dataclass(frozen=True)
class ListedPrompt:
    """One prompt of a list.

    Attributes:
        text: as the list has it, HTML tags and all.
        line: where it stands, from 1; in a parquet file its row.
        kind: what the list says its copies are, such as "verbatim" or "template"; empty if it says nothing.
        index: the list's own number of its training picture; empty without one.
        addresses: where the training picture was.
        tags: HTML tags in the text, which are markup to people and words to a model.
    """

    text: str
    line: int
    kind: str = ""
    index: str = ""
    addresses: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class PromptList:
    """What was read of a file.

    Attributes:
        name: the file's.
        shape: "JSONL", "text", "CSV" or "parquet".
        sha256: of the file.
        prompts: in the file's order; one that stands there twice counts once.
        broken: lines that could not be used, with reasons.
    """

    name: str
    shape: str
    sha256: str
    prompts: tuple[ListedPrompt, ...]
    broken: tuple[Broken, ...]


def read_list(path: Path) -> PromptList:
    """Read a list of any of the shapes above.

    Raises:
        PromptListError: if the file is too large, of no known shape, or has no usable line.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    return replace(parse_list(str(path), data), name=path.name)


def parse_list(name: str, data: bytes) -> PromptList:
    """The list in a file's bytes; `name` is what it is called. PromptListError as `read_list` has it."""
    if len(data) > MAX_BYTES:
        raise PromptListError(f"{name} is larger than {MAX_BYTES >> 20} MiB: split it")
    shape, found = _recognised(name, data)
    prompts, broken = _sorted_out(found)
    if not prompts:
        reasons = "; ".join(f"line {one.line}: {one.reason}" for one in broken[:3]) or "it is empty"
        raise PromptListError(f"{name} has no usable prompt, read as {shape} ({reasons})")
    return PromptList(name, shape, hashlib.sha256(data).hexdigest(), prompts, broken)


def _recognised(name: str, data: bytes) -> tuple[str, Iterator[Record | Broken]]:
    """The shape of a file, and what its lines hold."""
    if data.startswith(b"PAR1"):
        try:
            return "parquet", read_parquet(data, (*TEXTS, *KINDS, *ADDRESSES, *INDICES))
        except ImportError as error:
            raise PromptListError(
                f"{name} is a parquet file, and those are read by the package pyarrow, which is not here: "
                "pip install pyarrow, or save the list as JSONL or CSV"
            ) from error
        except ValueError as error:
            raise PromptListError(f"{name} is a parquet file that cannot be read: {error}") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        raise PromptListError(f"{name} is not text in UTF-8: save it as UTF-8")
    # What is no UTF-8 is kept as lone surrogates, so that the one line that has them can be named.
    lines = re.split(r"\r\n|\n|\r", data.decode("utf-8-sig", "surrogateescape"))
    for line in islice((one for one in lines if one.strip()), _LOOKED_AT):
        if _json(line) is not None:
            return "JSONL", _of_lines(lines, _json_record)
    known = (*TEXTS, *KINDS, *ADDRESSES, *INDICES)
    for delimiter in (";", ","):
        names = heading(lines, delimiter)
        if len(names) > 1 and set(names) & set(TEXTS) and (set(names) - set(TEXTS)) & set(known):
            return "CSV", read_table(lines, delimiter)
    return "text", _of_lines(lines, lambda line: {"prompt": line})


def _json(line: str) -> dict[str, object] | None:
    try:
        return parse_object(line)
    except PlainDataError:
        return None


def _json_record(line: str) -> Mapping[str, object]:
    return {str(name).lower(): value for name, value in parse_object(line).items()}


def _of_lines(lines: Sequence[str], read: Callable[[str], Mapping[str, object]]) -> Iterator[Record | Broken]:
    """A record of every line that is not blank."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield Record(number, read(line))
            except ValueError as error:
                yield Broken(number, str(error))


def _sorted_out(found: Iterator[Record | Broken]) -> tuple[tuple[ListedPrompt, ...], tuple[Broken, ...]]:
    """The prompts, and what was broken; each text once."""
    prompts: dict[str, ListedPrompt] = {}
    broken: list[Broken] = []
    for one in found:
        if isinstance(one, Broken):
            broken.append(one)
            continue
        try:
            prompt = _prompt(one)
            if prompt.text in prompts:
                raise ValueError(f"the same prompt as line {prompts[prompt.text].line}")
            if len(prompts) == MAX_PROMPTS:
                raise ValueError(f"a list has at most {MAX_PROMPTS} prompts, and the rest is left out")
        except ValueError as error:
            broken.append(Broken(one.line, str(error)))
            if len(prompts) == MAX_PROMPTS:
                break
        else:
            prompts[prompt.text] = prompt
    return tuple(prompts.values()), tuple(broken)


def _prompt(record: Record) -> ListedPrompt:
    """A prompt out of a line; ValueError says why not."""
    text = _first(record.values, TEXTS)
    if not isinstance(text, str):
        raise ValueError(f"no text under {' or '.join(TEXTS)}")
    text = text.strip()
    if not text:
        raise ValueError("the prompt is empty")
    if len(text) > MAX_PROMPT:
        raise ValueError(f"the prompt is longer than {MAX_PROMPT} characters")
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ValueError("it is not UTF-8")
    kind = _first(record.values, KINDS)
    word = kind.strip().lower()[:40] if isinstance(kind, str) else ""
    return ListedPrompt(
        text,
        record.line,
        KIND_WORDS.get(word, word),
        _index(_first(record.values, INDICES)),
        _addresses(_first(record.values, ADDRESSES)),
        tuple(_TAG.findall(text)),
    )


def _first(values: Mapping[str, object], names: Sequence[str]) -> object:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _index(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()[:80] if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def _addresses(value: object) -> tuple[str, ...]:
    """Addresses as one text, a list, or the text of a Python list of texts; nothing in it is run."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        # Only a flat list of texts gets as far as the parser, which nesting could bring down.
        if len(value) > MAX_LITERAL or not _FLAT_LIST.fullmatch(value):
            raise ValueError("its addresses are no Python list of texts")
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError) as error:
            raise ValueError("its addresses are no Python list of texts") from error
    if isinstance(value, str):
        return (value.strip(),) if value.strip() else ()
    if isinstance(value, list):
        return tuple(one for one in value if isinstance(one, str))
    return ()
