"""The pages /memstab/v1/verify, /memstab/v1/attack and /memstab/v1/extract."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from lib_memstab.host import extracts
from lib_memstab.host.answers import body_of, error_page, in_ascii, no_folder, refusal
from lib_memstab.host.asking import Host
from lib_memstab.host.attack import read_attack
from lib_memstab.host.audit import ForbiddenError
from lib_memstab.host.background import Asked, Doing, Work
from lib_memstab.host.verification import read_verification
from lib_memstab.settings import SettingsError

if TYPE_CHECKING:
    from lib_memstab.host.parts import Parts

A = TypeVar("A", bound=Asked)

Page = tuple[str, str, Callable[..., Any]]
"""Path, method and what answers."""

PAGE_POLICY = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}
"""A report has words of strangers' lists in it."""

KINDS = {"html": "text/html; charset=utf-8", "json": "application/json", "csv": "text/csv; charset=utf-8"}
BUSY: dict[Doing, str] = {
    "verifying": "a verification is on its way: wait, or DELETE /memstab/v1/verify",
    "attacking": "an attack is on its way: wait, or DELETE /memstab/v1/attack",
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

    def host() -> Host:
        return Host(parts.samplers(), parts.schedulers(), parts.size, parts.folders())

    return [
        ("/extract", "POST", extract),
        *_pages_of("/verify", parts.verifier, lambda body: read_verification(body, host())),
        *_pages_of("/attack", parts.attacker, lambda body: read_attack(body, host())),
    ]


def _pages_of(path: str, work: Callable[[], Work[A, Any]], read: Callable[[object], A]) -> list[Page]:
    """The pages of one kind of work: start, tell, stop, report; `read` makes what is asked for of a JSON body."""

    def told() -> dict[str, Any]:
        return work().progress.to_dict()

    async def start(request: Request) -> JSONResponse:
        try:
            asked = await run_in_threadpool(read, await body_of(request))
        except SettingsError as error:
            return refusal(error)
        except (ForbiddenError, FileNotFoundError) as error:
            return no_folder(error)
        refused = work().start(asked)
        return error_page(409, BUSY[refused]) if refused else JSONResponse(told(), 202)

    def stop() -> JSONResponse:
        if not work().stop():
            noun = work().noun
            return error_page(409, f"no {noun} is on its way: POST /memstab/v1{path} starts one")
        return JSONResponse(told(), 202)

    def report(format: str = "json") -> Response:
        forms = work().reports
        if format not in forms:
            return refusal(SettingsError("format", f"one of {', '.join(forms)}", format))
        file = work().file(format)
        if file is None:
            return error_page(404, f"there is no report yet: GET /memstab/v1{path} says how far the {work().noun} is")
        return Response(file.read_bytes(), media_type=KINDS[format], headers=PAGE_POLICY)

    return [(path, "GET", told), (path, "POST", start), (path, "DELETE", stop), (f"{path}/report", "GET", report)]
