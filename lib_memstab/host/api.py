"""MemStab's pages for programs, /memstab/v1/..., and the check of its arguments before the WebUI samples."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from secrets import compare_digest
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.dependencies.utils import get_parameterless_sub_dependant
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from lib_memstab import __version__
from lib_memstab.core.profile import Checkpoint, Profile, ProfileError
from lib_memstab.core.report import SCHEMA
from lib_memstab.evidence.audit import STATES
from lib_memstab.host.answers import body_of, error_page, in_ascii, no_folder, refusal
from lib_memstab.host.audit import ForbiddenError, answer, read_audit
from lib_memstab.host.evidence_pages import BUSY, Page, evidence_pages
from lib_memstab.host.openapi import described
from lib_memstab.host.parts import Parts
from lib_memstab.presets import PresetError
from lib_memstab.settings import TABLE, TITLE, SettingsError, read_args
from lib_memstab.store import SHIPPED, Store

if TYPE_CHECKING:
    from lib_memstab.host.learner import Learner

PREFIX = "/memstab/v1"
SAMPLING_PAGES = ("/sdapi/v1/txt2img", "/sdapi/v1/img2img")


def add_pages(app: FastAPI, parts: Parts) -> None:
    """Add all pages to the WebUI's own, under its own password, and check MemStab's arguments of its sampling pages."""
    guard = [Depends(_auth(parts.credentials))] if parts.credentials else []

    def version() -> dict[str, Any]:
        return {"version": __version__, "host": parts.host(), "schema": SCHEMA}

    def schema() -> dict[str, Any]:
        files = {name: SHIPPED / f"{name}.schema.json" for name in ("args", "badge", "profile")}
        settings = [{**asdict(one), "allowed": one.allowed(parts.store.names())} for one in TABLE]
        return {**{name: json.loads(file.read_text("utf-8")) for name, file in files.items()}, "settings": settings}

    def profiles() -> list[dict[str, Any]]:
        return [
            {
                "name": one.name,
                "own": one.own,
                "error": one.error or None,
                "sha256": one.profile and one.profile.checksum,
                "checkpoint": one.profile and asdict(one.profile.checkpoint),
                "modes": sorted(one.profile.modes) if one.profile else [],
                "second_looks": sorted(_looking_twice(one.profile)) if one.profile else [],
            }
            for one in parts.store.all()
        ]

    def presets() -> JSONResponse:
        try:
            found = parts.presets.all()
        except PresetError as error:
            return error_page(409, str(error))
        return JSONResponse([{"name": name, "settings": values} for name, values in found.items()])

    def last() -> list[dict[str, Any]]:
        return [report.to_dict() for report in parts.latest()]

    def progress() -> dict[str, Any]:
        return parts.calibrator().progress.to_dict()

    async def start(request: Request) -> JSONResponse:
        from lib_memstab.calibration.plan import read_plan

        try:
            plan = read_plan(await body_of(request), parts.samplers(), parts.schedulers(), parts.size())
        except SettingsError as error:
            return refusal(error)
        refused = parts.turn().taken()
        if refused or not parts.calibrator().start(plan):
            return error_page(409, BUSY[refused or "calibrating"])
        return JSONResponse(parts.calibrator().progress.to_dict(), 202)

    def stop() -> JSONResponse:
        if not parts.calibrator().stop():
            return error_page(409, f"no calibration is on its way: POST {PREFIX}/calibrate starts one")
        return JSONResponse(parts.calibrator().progress.to_dict(), 202)

    def learned() -> dict[str, Any]:
        return _learned(parts.learner(), parts.checkpoint())

    async def forget(request: Request) -> JSONResponse:
        body = await body_of(request)
        since = body.get("since", "") if isinstance(body, dict) else body
        if not isinstance(since, str) or (since and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", since)):
            return refusal(SettingsError("since", "a day written YYYY-MM-DD, or left out for all", since))
        try:
            dropped = parts.learner().forget(parts.checkpoint(), since)
        except ProfileError as error:
            return error_page(409, str(error))
        return JSONResponse({"forgotten": dropped, **_learned(parts.learner(), parts.checkpoint())})

    def auditable() -> dict[str, Any]:
        return {"folders": [str(folder) for folder in parts.folders()], "states": STATES}

    async def look_through(request: Request) -> Response:
        try:
            asked = read_audit(await body_of(request), parts.folders())
        except SettingsError as error:
            return refusal(error)
        except (ForbiddenError, FileNotFoundError) as error:
            return no_folder(error)
        return in_ascii(await run_in_threadpool(answer, asked))

    pages: list[Page] = [
        ("/version", "GET", version),
        ("/schema", "GET", schema),
        ("/profiles", "GET", profiles),
        ("/presets", "GET", presets),
        ("/reports/last", "GET", last),
        ("/learned", "GET", learned),
        ("/learned", "DELETE", forget),
        ("/audit", "GET", auditable),
        ("/audit", "POST", look_through),
        ("/calibrate", "GET", progress),
        ("/calibrate", "POST", start),
        ("/calibrate", "DELETE", stop),
        *evidence_pages(parts),
    ]
    for path, method, page in pages:
        told = described(path, method)
        app.add_api_route(PREFIX + path, page, methods=[method], dependencies=guard, response_model=None, **told)
    _check_arguments(app, parts.store)


def _check_arguments(app: FastAPI, store: Store) -> None:
    """Make the WebUI's sampling pages refuse arguments of MemStab that cannot be used, before they sample."""

    async def check(request: Request) -> None:
        body = await body_of(request)
        scripts = body.get("alwayson_scripts") if isinstance(body, dict) else None
        for name, script in scripts.items() if isinstance(scripts, dict) else ():
            if name.lower() != TITLE.lower() or not isinstance(script, dict) or "args" not in script:
                continue
            try:
                if not isinstance(script["args"], list):
                    raise SettingsError("args", "a list", script["args"])
                read_args(script["args"], store.names())
            except SettingsError as error:
                raise HTTPException(
                    422, {"message": str(error), "field": error.field, "allowed": error.allowed}
                ) from error

    routes: list[Any] = list(app.router.routes)
    for route in routes:
        if getattr(route, "path", None) in SAMPLING_PAGES:
            checked = get_parameterless_sub_dependant(depends=Depends(check), path=route.path)
            # Behind the WebUI's own: whoever has no password learns nothing, not even which profiles there are.
            route.dependant.dependencies.append(checked)


def _looking_twice(profile: Profile) -> list[str]:
    """The modes in which a suspicious image gets a second look, with a negative prompt and without."""
    regions = {mode: one.region for mode, one in profile.modes.items()}
    return [mode for mode, region in regions.items() if region.looks_twice(False) and region.looks_twice(True)]


def _learned(learner: Learner, checkpoint: Checkpoint) -> dict[str, Any]:
    lessons = learner.lessons(checkpoint)
    return {
        "checkpoint": asdict(checkpoint),
        "learning": learner.wanted(),
        "images": len(lessons),
        "prompts": len({one.prompt for one in lessons}),
        "message": learner.line(checkpoint),
    }


def _auth(pairs: str) -> Callable[..., None]:
    known = [pair.partition(":") for pair in pairs.split(",")]

    def check(credentials: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:  # noqa: B008 - FastAPI's own way
        for user, _, password in known:
            same = compare_digest(credentials.username.encode(), user.encode())
            if same & compare_digest(credentials.password.encode(), password.encode()):
                return
        raise HTTPException(401, "Incorrect username or password", {"WWW-Authenticate": "Basic"})

    return check
