"""JSON Schemas of what MemStab's pages read and answer, and what they are made of."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer", "minimum": 0}


def object_of(properties: dict[str, Schema], optional: tuple[str, ...] = (), **more: Any) -> Schema:
    """An object of these properties, all there but the `optional` ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, **({"required": required} if required else {}), **more}


def list_of(items: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": items}


def said(schema: Schema, description: str) -> Schema:
    """The same with a description."""
    return {**schema, "description": description}


def optional(schema: Schema) -> Schema:
    """The same, or null."""
    return {**schema, "nullable": True}


ERROR = object_of({"error": said(TEXT, "What is wrong, and what to do.")})
REFUSAL = object_of(
    {
        **ERROR["properties"],
        "field": said(TEXT, "The field's name."),
        "allowed": said(TEXT, "The values it may have, in words."),
    }
)
