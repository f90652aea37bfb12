"""What MemStab's pages read of a request, and the answers they share: refusals are JSON that says what to do."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from lib_memstab.host.audit import ForbiddenError
from lib_memstab.settings import SettingsError


async def body_of(request: Request) -> object:
    """The body as JSON data; an empty one as an empty object, a broken one as its first characters."""
    body = await request.body()
    try:
        return json.loads(body) if body.strip() else {}
    except ValueError:
        return body[:40].decode("utf-8", "replace")


def refusal(error: SettingsError) -> JSONResponse:
    """422: a field that cannot be used, and the values it may have."""
    return JSONResponse({"error": str(error), "field": error.field, "allowed": error.allowed}, 422)


def no_folder(error: ForbiddenError | FileNotFoundError) -> JSONResponse:
    """403 for a folder that is none of the host's, 404 for one that is not there."""
    if isinstance(error, ForbiddenError):
        return JSONResponse({"error": str(error), "allowed": error.allowed}, 403)
    return error_page(404, str(error))


def in_ascii(content: dict[str, Any]) -> Response:
    """JSON in ASCII: names that are not Unicode cannot be told otherwise."""
    return Response(json.dumps(content), media_type="application/json")


def error_page(status: int, message: str) -> JSONResponse:
    """Another refusal."""
    return JSONResponse({"error": message}, status)
