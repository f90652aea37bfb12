"""A real WebUI with the lab checkpoint and the extension, started once for all tests of this folder.

`--webui FOLDER` or MEMSTAB_WEBUI=FOLDER: a WebUI of this machine. It is started with a data folder of its own, into
which the extension is cloned as users do; MEMSTAB_WEBUI_PYTHON and MEMSTAB_WEBUI_ARGS say otherwise than its venv
and the processor. An address instead of a folder is one that runs already, with MemStab and the lab checkpoint.
"""

import base64
import hashlib
import io
import json
import os
import shlex
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lib_memstab.core.report import ImageReport
from lib_memstab.lab import truth
from lib_memstab.lab.corpus import Memorized
from lib_memstab.lab.experiment import MODEL_FOLDER, load_lab_model, load_splits

ROOT = Path(__file__).resolve().parents[2]
PROBE, RECORDER = (Path(__file__).parent / name for name in ("probe.py", "memstab_recorder.py"))
START_LIMIT_S = 300
PATIENCE_MS = 240_000
"""How long a busy machine may take for a page."""
OTHER = "other"
"""Name of a second checkpoint, the first one with one weight changed."""
ON_PROCESSOR = "--use-cpu all --no-half --skip-torch-cuda-test"


class Picture:
    """One picture of an answer: pixels, infotext, and MemStab's report."""

    def __init__(self, data):
        self.image = Image.open(io.BytesIO(base64.b64decode(data)))
        self.data = data
        self.pixels = np.asarray(self.image.convert("RGB")).astype(int)
        self.infotext = self.image.info.get("parameters", "")
        chunk = self.image.info.get("memstab")
        self.report = None if chunk is None else ImageReport.from_dict(json.loads(chunk))

    def equals(self, other):
        return self.pixels.shape == other.pixels.shape and bool((self.pixels == other.pixels).all())


class Truth:
    """Who knows the memorized pictures and says how much a picture from the WebUI is like one."""

    def __init__(self, model, rows):
        """`rows` are memorized prompts as splits.json has them; of a template every filling leads to its pair."""
        self.model = model
        pairs = [Memorized(**{name: value for name, value in row.items() if name != "fillings"}) for row in rows]
        self.references, self.masks = truth.reference_latents(model, pairs), truth.masks(pairs)
        self.place = {row["text"]: index for index, row in enumerate(rows)}
        for index, row in enumerate(rows):
            self.place.update({filling["text"]: index for filling in row.get("fillings") or ()})

    @torch.no_grad()
    def similarity(self, picture, prompt):
        """Similarity of a picture to the one that `prompt` memorized, by the autoencoder's view of its pixels."""
        pixels = torch.from_numpy(picture.pixels).permute(2, 0, 1)[None].float() / 255
        place = [self.place[prompt]]
        latents = self.model.encode_images(pixels)
        return float(truth.similarity(latents, self.references[place], self.masks[place]))

    def copied(self, picture, prompt):
        return self.similarity(picture, prompt) > truth.COPY_THRESHOLD


class Client:
    """Speaks to a running WebUI."""

    def __init__(self, address, folder=None):
        self.address, self.folder = address.rstrip("/"), folder

    def call(self, path, body=None, method=None, login=""):
        """Status and JSON of a page; `login` is USER:PASSWORD."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if login:
            headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=900) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def sample(self, prompt, memstab=None, page="txt2img", probe=None, **changes):
        """Pictures of one job; `memstab` is the argument object, None for without."""
        body = {
            "prompt": prompt,
            "seed": 1,
            "steps": 20,
            "cfg_scale": 7.5,
            "width": 128,
            "height": 128,
            "sampler_name": "Euler",
            **changes,
        }
        scripts = {}
        if memstab is not None:
            scripts["MemStab"] = {"args": [{"enabled": True, **memstab}]}
        if probe is not None:
            scripts["MemStab probe"] = {"args": [json.dumps(probe)]}
        status, answer = self.call(f"/sdapi/v1/{page}", {**body, "alwayson_scripts": scripts})
        assert status == 200, answer
        return [Picture(data) for data in answer["images"]]

    def one(self, *arguments, **changes):
        pictures = self.sample(*arguments, **changes)
        assert len(pictures) == 1
        return pictures[0]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def lay_out(data):
    """The data folder of a user who put the lab checkpoint into models and cloned the extension."""
    models = data / "models" / "Stable-diffusion"
    models.mkdir(parents=True)
    for part in ("memstab-lab.safetensors", "memstab-lab.yaml"):
        shutil.copy(MODEL_FOLDER / part, models)
    shutil.copytree(MODEL_FOLDER / "memstab-lab", models / "memstab-lab")
    # The text model's folder is named relative to the WebUI's own, where this checkpoint is not.
    settings = models / "memstab-lab.yaml"
    near = settings.read_text("utf-8")
    assert "models/Stable-diffusion/memstab-lab" in near
    settings.write_text(near.replace("models/Stable-diffusion/memstab-lab", str(models / "memstab-lab")), "utf-8")
    # Another checkpoint, by one weight, of which there is no profile.
    weights = load_file(models / "memstab-lab.safetensors")
    weights["model.diffusion_model.out.2.bias"][0] += 0.01
    save_file(weights, models / f"{OTHER}.safetensors")
    shutil.copy(settings, models / f"{OTHER}.yaml")
    (data / "extensions" / "probe" / "scripts").mkdir(parents=True)
    shutil.copy(PROBE, data / "extensions" / "probe" / "scripts" / "memstab_probe.py")
    shutil.copy(RECORDER, data / "extensions" / "probe")
    clone = ["git", "clone", "-q", ROOT.as_uri(), str(data / "extensions" / "memstab")]
    subprocess.run(clone, check=True)


def place_of(config):
    return config.getoption("--webui") or os.environ.get("MEMSTAB_WEBUI", "")


def pytest_collection_modifyitems(config, items):
    """Without a WebUI one test of this folder says so, and the others are not there."""
    own = [item for item in items if Path(__file__).parent in item.path.parents]
    if place_of(config) or not own:
        return
    own[0].add_marker(pytest.mark.skip(reason="no WebUI: say where with --webui FOLDER or MEMSTAB_WEBUI=FOLDER"))
    config.hook.pytest_deselected(items=own[1:])
    items[:] = [item for item in items if item not in own[1:]]


@contextmanager
def running(place, data, *arguments):
    """A WebUI of the folder `place` with the data folder `data`, until the block ends."""
    folder, port, log = Path(place).resolve(), free_port(), data / "log.txt"
    lay_out(data)
    python = os.environ.get("MEMSTAB_WEBUI_PYTHON") or str(folder / "venv" / "bin" / "python")
    own = ["--port", str(port), "--data-dir", str(data), "--gradio-allowed-path", str(data), *arguments]
    given = shlex.split(os.environ.get("MEMSTAB_WEBUI_ARGS", ON_PROCESSOR))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, str(folder / "launch.py"), *own, *given], cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        client = Client(f"http://127.0.0.1:{port}", data)
        wait_for(client, process, log)
        yield client
    finally:
        process.terminate()
        process.wait(60)


def wait_for(client, process, log):
    """Until the WebUI has the page of the extension that it loads last.

    It is asked nothing before it says that it has started: a request in the wrong moment keeps it from starting.
    """
    for _ in range(START_LIMIT_S):
        time.sleep(1)
        if process.poll() is not None:
            break
        if "Startup time:" not in log.read_text("utf-8", "replace"):
            continue
        try:
            if client.call("/memstab-probe/record")[0] == 200:
                return
        except OSError:
            continue
    pytest.fail(f"the WebUI did not start:\n{log.read_text('utf-8', 'replace')[-4000:]}")


@pytest.fixture(scope="session")
def webui(request, tmp_path_factory):
    place = place_of(request.config)
    if place.startswith("http"):
        yield Client(place)
        return
    with running(place, tmp_path_factory.mktemp("webui"), "--api") as client:
        yield client


@pytest.fixture(scope="session")
def splits():
    return load_splits()


@pytest.fixture(scope="session")
def known(splits):
    """Says how much a picture is like the training picture of its prompt."""
    return Truth(load_lab_model(), splits["tuning"]["memorized"])


@pytest.fixture(scope="session")
def calibrated(webui, splits):
    """The WebUI with a usable profile of its checkpoint: the shipped one, or one made over the API if that is not."""
    _, profiles = webui.call("/memstab/v1/profiles")
    digest = hashlib.sha256((MODEL_FOLDER / "memstab-lab.safetensors").read_bytes()).hexdigest()
    if not any(one["error"] is None and one["checkpoint"]["sha256"] == digest for one in profiles):
        plan = {
            "width": 128,
            "height": 128,
            "guidance": [7.5, 1],
            "trajectories": 128,
            "batch_size": 16,
            "prompts": splits["calibration"],
        }
        status, answer = webui.call("/memstab/v1/calibrate", plan, "POST")
        assert status == 202, answer
        while webui.call("/memstab/v1/calibrate")[1]["state"] in ("waiting", "running"):
            time.sleep(1)
        progress = webui.call("/memstab/v1/calibrate")[1]
        assert progress["state"] == "done", progress
    return webui


@pytest.fixture(scope="session")
def memorized(splits):
    """Prompts of training pictures that were shown far too often."""
    rows = splits["tuning"]["memorized"]
    return [row["text"] for row in rows if row["rate"] == "heavy" and row["kind"] == "title"]


@pytest.fixture(scope="session")
def ordinary(splits):
    return [row["text"] for row in splits["tuning"]["ordinary"]]


@pytest.fixture
def option(calibrated):
    """Sets options of the WebUI for one test.

    Not by a job's override_settings: the WebUI does not take those back that were never set before.
    """
    _, before = calibrated.call("/sdapi/v1/options")
    changed = {}

    def change(**options):
        changed.update({name: before[name] for name in options})
        assert calibrated.call("/sdapi/v1/options", options)[0] == 200

    yield change
    calibrated.call("/sdapi/v1/options", changed)


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need the package playwright")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("the browser tests need chromium")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def pictures(request, tmp_path_factory):
    """Where screenshots are kept: --screenshots, or pytest's own folder."""
    wanted = request.config.getoption("--screenshots")
    folder = Path(wanted) if wanted else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def opened(calibrated, browser):
    """Opens the WebUI in a page of its own, in which MemStab's scripts must not break."""
    pages, errors = [], []

    def open_page(address="/", width=1400, height=1200, **context):
        page = browser.new_context(viewport={"width": width, "height": height}, **context).new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: errors.append(f"{error}\n{error.stack}"))
        page.goto(calibrated.address + address)
        page.wait_for_selector("#script_txt2img_memstab_enable")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert [one for one in errors if "memstab" in one] == []
