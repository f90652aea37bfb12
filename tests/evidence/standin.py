"""Stand-ins for a WebUI over a real socket: one that is told its answers, one that replays a prompt as a model does.

The real one is asked in tests/e2e.
"""

import base64
import hashlib
import io
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

from lib_memstab import badge
from tests.evidence.pictures import parameters
from tests.test_badge import CASES

VERSION, OPTIONS, SAMPLERS = ("/memstab/v1/version", "/sdapi/v1/options", "/sdapi/v1/samplers")
TXT2IMG, IMG2IMG = "/sdapi/v1/txt2img", "/sdapi/v1/img2img"
DROPPED = object()


@contextmanager
def serving(answer):
    """The port of a server that gives `answer(path, login, body)`: (status, content), or `DROPPED`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = answer(self.path, self.headers.get("Authorization"), json.loads(body) if body else None)
            if found is DROPPED:
                self.close_connection = True
                return
            status, content = found
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def rough(*of):
    """A picture of rough squares, another one for everything else it is of."""
    digest = hashlib.sha256(repr(of).encode()).digest()
    squares = np.random.default_rng(int.from_bytes(digest[:8], "big")).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return squares.repeat(8, axis=0).repeat(8, axis=1)


def noisy(picture, seed):
    """The same picture but for a little noise of this seed."""
    noise = np.random.default_rng(seed).integers(-5, 6, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8)


class Replaying:
    """A model that gives one picture for every prompt that holds one of `memorized`, whatever the seed.

    MemStab sees that and leads away from it, but for jobs that have one of the settings in `hidden`: those pictures are
    clear. From a picture it makes a copy of that picture, which nothing is measured of.
    """

    def __init__(self, memorized, hidden=()):
        self.memorized, self.hidden = memorized, hidden
        self.jobs, self.address, self.breaks_at = [], "", None

    def answer(self, path, login, body):
        """The WebUI's pages."""
        if path == OPTIONS:
            return 200, {"samples_format": "png", "sd_model_checkpoint": "x", "enable_prompt_comments": True}
        if path == VERSION:
            return 200, {"version": "0.1.0", "host": "WebUI 1.10.1"}
        if path == SAMPLERS:
            return 200, [{"name": name} for name in ("Euler", "Euler a", "DPM++ 2M")]
        if path not in (TXT2IMG, IMG2IMG) or self.breaks_at == len(self.jobs):
            return 500, {"error": "OutOfMemoryError", "errors": "CUDA out of memory"}
        self.jobs.append(body)
        pixels, case = self._made(body)
        return 200, {"images": [base64.b64encode(_file(pixels, case)).decode()], "info": "{}"}

    def _made(self, body):
        """Pixels and the kind of badge of a job."""
        memstab = body["alwayson_scripts"]["MemStab"]["args"][0]
        prompt, seed = body["prompt"].replace("\\", ""), body["seed"]
        if "init_images" in body:
            picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(body["init_images"][0]))))
            return picture, "not measured" if memstab["enabled"] else None
        found = next((text for text in self.memorized if text in prompt), None)
        if found is None:
            return rough(prompt, seed), "clear" if memstab["enabled"] else None
        if not memstab["enabled"]:
            return noisy(rough(found), seed), None
        if any(body.get(name) == value for name, value in self.hidden):
            return noisy(rough(found), seed), "clear"
        return rough("suppressed", prompt, seed), "suppressed"


def _file(pixels, case):
    file, info = io.BytesIO(), None
    if case is not None:
        settings, report = CASES[case]
        info = badge.png_info(report, parameters(settings, report))
    Image.fromarray(pixels).save(file, "PNG", pnginfo=info)
    return file.getvalue()


@contextmanager
def replaying(*memorized, hidden=()):
    """A `Replaying` that runs."""
    model = Replaying(memorized, hidden)
    with serving(model.answer) as port:
        model.address = f"http://127.0.0.1:{port}"
        yield model
