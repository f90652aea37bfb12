"""The pages /memstab/v1/verify and /memstab/v1/extract."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from lib_memstab.host import extracts
from lib_memstab.host.answers import body_of, error_page, in_ascii, no_folder, refusal
from lib_memstab.host.audit import ForbiddenError
from lib_memstab.host.verification import read_verification
from lib_memstab.host.verifier import REPORTS, Refusal
from lib_memstab.settings import SettingsError

if TYPE_CHECKING:
    from lib_memstab.host.parts import Parts

Page = tuple[str, str, Callable[..., Any]]
"""Path, method and what answers."""

PAGE_POLICY = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}
"""A report has words of strangers' lists in it."""

KINDS = {"html": "text/html; charset=utf-8", "json": "application/json", "csv": "text/csv; charset=utf-8"}
BUSY: dict[Refusal, str] = {
    "verifying": "a verification is on its way: wait, or DELETE /memstab/v1/verify",
    "calibrating": "a calibration is on its way: wait, or DELETE /memstab/v1/calibrate",
}


def evidence_pages(parts: Parts) -> list[Page]:
    """The pages, for `api.add_pages`."""

    async def extract(request: Request) -> Response:
        try:
            asked = extracts.read_extraction(await body_of(request), parts.folders())
            return in_ascii(await run_in_threadpool(extracts.answer, asked))
        except SettingsError as error:
            return refusal(error)
        except (ForbiddenError, FileNotFoundError) as error:
            return no_folder(error)

    def verified() -> dict[str, Any]:
        return parts.verifier().progress.to_dict()

    async def verify(request: Request) -> JSONResponse:
        choices = parts.samplers(), parts.schedulers(), parts.size, parts.folders()
        try:
            asked = await run_in_threadpool(read_verification, await body_of(request), *choices)
        except SettingsError as error:
            return refusal(error)
        except (ForbiddenError, FileNotFoundError) as error:
            return no_folder(error)
        refused = parts.verifier().start(asked)
        return error_page(409, BUSY[refused]) if refused else JSONResponse(verified(), 202)

    def stop_verifying() -> JSONResponse:
        if not parts.verifier().stop():
            return error_page(409, "no verification is on its way: POST /memstab/v1/verify starts one")
        return JSONResponse(verified(), 202)

    def report(format: str = "json") -> Response:
        if format not in REPORTS:
            return refusal(SettingsError("format", f"one of {', '.join(REPORTS)}", format))
        path = parts.verifier().file(format)
        if path is None:
            return error_page(404, "there is no report yet: GET /memstab/v1/verify says how far the verification is")
        return Response(path.read_bytes(), media_type=KINDS[format], headers=PAGE_POLICY)

    return [
        ("/extract", "POST", extract),
        ("/verify", "GET", verified),
        ("/verify", "POST", verify),
        ("/verify", "DELETE", stop_verifying),
        ("/verify/report", "GET", report),
    ]
