"""A running WebUI with MemStab, asked over its API; every refusal becomes an error that says what to do."""

from __future__ import annotations

import base64
import binascii
import http.client
import io
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lib_memstab import badge
from lib_memstab.badge import BadgeError
from lib_memstab.core.report import ImageReport
from lib_memstab.settings import TITLE

log = logging.getLogger("memstab")

WAITS: Final = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Seconds before each further attempt after a connection was lost."""

TIMEOUT_S: Final = 900
MAX_ANSWER: Final = 256 << 20
"""Longest answer that is read, in bytes."""

_OPTIONS, _SAMPLERS, _VERSION = "/sdapi/v1/options", "/sdapi/v1/samplers", "/memstab/v1/version"
_TXT2IMG, _IMG2IMG = "/sdapi/v1/txt2img", "/sdapi/v1/img2img"
INIT_IMAGES: Final = "init_images"
"""What a job has that begins from a picture."""


class WebUIError(RuntimeError):
    """A WebUI that does not do what is asked; the message says what to do."""


@dataclass(frozen=True)
class Picture:
    """One picture of a WebUI.

    Attributes:
        pixels: [H, W, 3].
        report: its badge; None without one.
        seconds: that its job took.
        checkpoint: short hash of the checkpoint that was loaded; empty where the WebUI does not say.
    """

    pixels: NDArray[np.uint8]
    report: ImageReport | None
    seconds: float
    checkpoint: str


class WebUI:
    """Speaks to one WebUI; `login` is USER:PASSWORD as its --api-auth has it, empty without one.

    Raises:
        WebUIError: at once, if the address is none.
    """

    def __init__(self, address: str, login: str = "", waits: tuple[float, ...] = WAITS) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise WebUIError(f"{address} is no address of a WebUI: one looks like http://127.0.0.1:7860")
        self.address, self._waits = address.rstrip("/"), waits
        self._headers = {"Content-Type": "application/json"}
        if login:
            self._headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode('ascii')}"

    def options(self) -> dict[str, Any]:
        """The WebUI's settings; the first thing to ask, for what it says where there is no WebUI or no API."""
        missing = f"{self.address} answers without an API: start the WebUI with --api"
        found = self._call(_OPTIONS, None, missing, patient=False)
        if not isinstance(found, dict):
            raise WebUIError(f"{self.address} is no WebUI: it answers {_OPTIONS} with something else")
        return found

    def samplers(self) -> list[str]:
        """Names of the samplers there are."""
        rows = self._get(_SAMPLERS, f"{self.address} has no {_SAMPLERS}: update the WebUI")
        return [str(row["name"]) for row in rows if isinstance(row, dict) and "name" in row]

    def memstab(self) -> dict[str, Any]:
        """MemStab's version there, and the host's."""
        missing = (
            f"the WebUI at {self.address} runs without MemStab, or with one that is too old: install or update the "
            "extension and start the WebUI again"
        )
        found = self._get(_VERSION, missing)
        if not isinstance(found, dict) or "version" not in found:
            raise WebUIError(missing)
        return found

    def sample(self, job: Mapping[str, Any], memstab: Mapping[str, Any]) -> Picture:
        """One picture of a job of one, img2img if it has `INIT_IMAGES`; `memstab` is the extension's argument object.

        Raises:
            WebUIError: if the WebUI refuses, fails, or answers with anything but one PNG.
        """
        body = {**job, "batch_size": 1, "n_iter": 1, "alwayson_scripts": {TITLE: {"args": [dict(memstab)]}}}
        page = _IMG2IMG if INIT_IMAGES in job else _TXT2IMG
        start = time.perf_counter()
        answer = self._call(page, body, f"the WebUI at {self.address} has no {page}: start it with --api")
        seconds = time.perf_counter() - start
        pictures = answer.get("images") if isinstance(answer, dict) else None
        if not isinstance(pictures, list) or len(pictures) != 1 or not isinstance(pictures[0], str):
            raise WebUIError("the WebUI answered with something else than one picture: look at its console")
        return _picture(pictures[0], seconds, _checkpoint(answer.get("info")))

    def _get(self, path: str, missing: str) -> Any:
        return self._call(path, None, missing)

    def _call(self, path: str, body: Mapping[str, Any] | None, missing: str, patient: bool = True) -> Any:
        """The JSON of a page; a lost connection is tried again a few times, unless it is the first."""
        data = None if body is None else json.dumps(body).encode("utf-8")
        request = urllib.request.Request(self.address + path, data, self._headers)
        for wait in self._waits if patient else ():
            answer = self._attempt(request, missing)
            if not isinstance(answer, Exception):
                return answer
            log.warning("the connection to %s was lost (%s): trying again", self.address, answer)
            time.sleep(wait)
        answer = self._attempt(request, missing)
        if isinstance(answer, Exception):
            raise WebUIError(
                f"nothing answers at {self.address} ({answer}): is the WebUI running, and is that its address?"
            ) from answer
        return answer

    def _attempt(self, request: urllib.request.Request, missing: str) -> Any:
        """The JSON of a page, or the error of a lost connection; WebUIError for a refusal."""
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return _json(answer.read(MAX_ANSWER + 1), self.address)
        except urllib.error.HTTPError as error:
            raise WebUIError(self._refusal(error, missing)) from error
        except (OSError, http.client.HTTPException) as error:
            return error

    def _refusal(self, error: urllib.error.HTTPError, missing: str) -> str:
        """What to do about a status that is no success."""
        told = _told(error)
        if error.code in (401, 403):
            return f"{self.address} asks for a login: give the one of its --api-auth as --auth USER:PASSWORD"
        if error.code == 404 and told in ("", "Not Found"):
            return missing
        if error.code == 422:
            return f"the WebUI refuses the job ({told}): check the settings, and that MemStab is switched on there"
        return f"the WebUI failed with status {error.code} ({told or 'no reason given'}): look at its console"


def _json(data: bytes, address: str) -> Any:
    if len(data) > MAX_ANSWER:
        raise WebUIError(f"{address} answers with more than {MAX_ANSWER >> 20} MiB: that is no picture")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WebUIError(f"{address} is no WebUI's API: it answers with something else than JSON") from error


def _told(error: urllib.error.HTTPError) -> str:
    """What a refusal says of itself, on one line."""
    try:
        content = json.loads(error.read(1 << 16))
    except (OSError, ValueError, http.client.HTTPException, RecursionError):
        return ""
    found = [content.get(name) for name in ("detail", "errors", "error")] if isinstance(content, dict) else [content]
    text = next((one if isinstance(one, str) else json.dumps(one) for one in found if one), "")
    return "".join(sign if sign.isprintable() else " " for sign in text)[:300]


def _checkpoint(info: object) -> str:
    """The checkpoint's short hash in a job's account of itself."""
    try:
        content = json.loads(info) if isinstance(info, str) else {}
    except (ValueError, RecursionError):
        return ""
    return str(content.get("sd_model_hash", ""))[:80] if isinstance(content, dict) else ""


def _picture(data: str, seconds: float, checkpoint: str) -> Picture:
    """Pixels and badge of a PNG in base 64."""
    try:
        file = io.BytesIO(base64.b64decode(data.partition(",")[2] or data, validate=True))
        with Image.open(file, formats=("PNG",)) as image:
            pixels, chunk = np.array(image.convert("RGB")), image.info.get(badge.CHUNK)
        report = None if chunk is None else badge.from_chunk(chunk)
    except (binascii.Error, OSError, ValueError, Image.DecompressionBombError, SyntaxError) as error:
        if isinstance(error, BadgeError):
            raise WebUIError(f"a picture's badge cannot be read: {error}") from error
        raise WebUIError(
            f"the WebUI's picture cannot be read as PNG ({error}): set its File format for images to png"
        ) from error
    return Picture(pixels, report, seconds, checkpoint)
