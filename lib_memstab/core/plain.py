"""Plain data: dataclasses as JSON, written and read strictly.

What is written can always be read; reading trusts nothing.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from functools import lru_cache
from types import UnionType
from typing import Any, Literal, TypeGuard, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

MAX_TEXT = 2000
"""Longest text of one field, in characters."""

MAX_ITEMS = 50_000
"""Longest list of one field."""

T = TypeVar("T")

_ARRAY = get_origin(NDArray[np.float64])  # numpy.ndarray, or from numpy 2.5 on the alias itself
_ADDED = "added after the first files"
_LARGEST_EXACT_WHOLE = 2**53
_LARGEST_NUMBER = 1e300
_LINE_BREAKERS = frozenset({"Cc", "Cs", "Zl", "Zp"})


class PlainDataError(ValueError):
    """Plain data that is not what a dataclass asks for; the message names the field."""


def check_schema(found: object, known: int) -> None:
    """Raise PlainDataError unless the schema number `found` in a file is the one this MemStab knows."""
    if type(found) is not int:
        raise PlainDataError("the field 'schema' is missing or not a whole number")
    if found != known:
        raise PlainDataError(f"its schema is {str(found)[:20]} and this MemStab reads schema {known}: update MemStab")


def parse_object(data: bytes | str) -> dict[str, Any]:
    """The JSON object in `data`; PlainDataError for anything else, for repeated keys, NaN and infinity."""
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        content = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except PlainDataError:
        raise
    except (ValueError, RecursionError) as error:
        raise PlainDataError(f"it is not JSON in UTF-8 ({error})") from error
    if not isinstance(content, dict):
        raise PlainDataError("it is not a JSON object")
    return content


def added(default: T) -> T:
    """A dataclass field that came after the first files of its kind: one that lacks it takes this default."""
    return field(default=default, metadata={_ADDED: True})


def from_plain(kind: type[T], value: object, *, additions: bool = False) -> T:
    """A dataclass from plain data: every field there, types as annotated, none that `kind` does not know.

    Fields that were `added` may be missing. With `additions`, unknown fields are left out, and missing ones take their
    default if they have one. Numbers are at most 1e300, texts one line of at most `MAX_TEXT` characters, lists at most
    `MAX_ITEMS` items.

    Raises:
        PlainDataError: names the field and what it should be.
    """
    return _read(kind, value, "", additions)


def to_plain(value: Any) -> Any:
    """Plain JSON data of a dataclass that `from_plain` reads back, floats exactly.

    Whole numbers lose their fraction (7.0 is written 7), numbers that are not finite become null, texts one line of at
    most `MAX_TEXT` characters.
    """
    if is_dataclass(value):
        return {one.name: to_plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list, np.ndarray)):
        return [to_plain(item) for item in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, str):
        text = value[:MAX_TEXT]
        if text.isprintable():  # so nothing breaks the line; signs are looked at one by one only where something may
            return text
        return "".join(" " if unicodedata.category(sign) in _LINE_BREAKERS else sign for sign in text)
    if isinstance(value, float):
        if not abs(value) <= _LARGEST_NUMBER:
            return None
        return int(value) if value.is_integer() and abs(value) <= _LARGEST_EXACT_WHOLE else value
    return value


def _read(kind: Any, value: object, where: str, additions: bool) -> Any:
    """One value as the annotation `kind` asks for; `where` is its path from the top."""
    origin, parts = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _read_record(kind, value, where, additions)
    if origin is UnionType:
        return None if value is None else _read(parts[0], value, where, additions)
    if origin is Literal and isinstance(value, str) and value in parts:
        return value
    if origin is Mapping and isinstance(value, dict):
        return {
            _read(parts[0], key, f"{where}'s key", additions): _read(parts[1], item, f"{where}.{key}", additions)
            for key, item in value.items()
        }
    if origin in (tuple, _ARRAY) and isinstance(value, list) and len(value) <= MAX_ITEMS:
        if origin is _ARRAY:
            return np.array([_read(float, item, where, additions) for item in value], dtype=np.float64)
        kinds = [parts[0]] * len(value) if parts[1] is Ellipsis else parts
        if len(kinds) == len(value):
            return tuple(_read(one, item, where, additions) for one, item in zip(kinds, value, strict=True))
    if kind is bool and isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str) and len(value) <= MAX_TEXT and to_plain(value) == value:
        return value
    if kind in (int, float) and _is_number(value, kind) and abs(value) <= _LARGEST_NUMBER:
        return kind(value)
    expected = " or ".join(map(repr, parts)) if origin is Literal else str(getattr(kind, "__name__", kind))
    raise PlainDataError(f"the field {where.lstrip('.') or 'at the top'!r} should be {expected}, not {_shown(value)}")


def _read_record(kind: Any, value: object, where: str, additions: bool) -> Any:
    """A dataclass out of a JSON object."""
    if not isinstance(value, dict):
        raise PlainDataError(f"the field {where.lstrip('.')!r} should be an object, not {_shown(value)}")
    hints = _hints(kind)
    known = {one.name: one.default is MISSING or not (additions or _ADDED in one.metadata) for one in fields(kind)}
    missing = [name for name, needed in known.items() if needed and name not in value]
    unknown = [] if additions else [name for name in value if name not in known]
    if missing or unknown:
        what, name = ("missing", missing[0]) if missing else ("unknown", unknown[0])
        raise PlainDataError(f"the field {f'{where}.{name}'.lstrip('.')[:80]!r} is {what}")
    present = {name: _read(hints[name], value[name], f"{where}.{name}", additions) for name in known if name in value}
    try:
        return kind(**present)
    except ValueError as error:
        raise PlainDataError(str(error)) from error


@lru_cache(maxsize=64)
def _hints(kind: type) -> dict[str, Any]:
    """A dataclass's annotations; files of many records ask for them over and over."""
    return get_type_hints(kind)


def _is_number(value: object, kind: type) -> TypeGuard[int | float]:
    return type(value) in (int, kind)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise PlainDataError("a key stands twice in one object")
    return content


def _refuse_constant(name: str) -> None:
    raise PlainDataError(f"{name} is not a number JSON allows")


def _shown(value: object) -> str:
    """A hostile value, short enough for a message."""
    return f"{type(value).__name__} {ascii(value)[:40]}" if isinstance(value, (str, float)) else type(value).__name__
