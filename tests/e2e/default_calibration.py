"""How honest a calibration by default is: false alarms and hits in many ways of sampling, as a table.

python -m tests.e2e.default_calibration --webui FOLDER [--ordinary 200] [--only "CFG 3" | --samplers | --schedulers]

The WebUI calibrates itself by `POST /memstab/v1/calibrate` with nothing but the size, so with prompts of its own
choice; then ordinary and memorized prompts of the tuning split run in detect mode. A hit is a flagged picture among
those that are copies. MEMSTAB_LAB_MODEL=FOLDER takes a model that `train` made in place of the lab model.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from lib_memstab.lab import truth
from lib_memstab.lab.experiment import load_lab_model, load_splits
from lib_memstab.lab.tables import share, table
from lib_memstab.lab.tools import SEED_BASES
from lib_memstab.lab.trials import memorized_trials, plain_trials
from tests.e2e.conftest import Client, Truth, running
from tests.e2e.parity import pictures_of

WAYS = {
    "Euler 20, CFG 7.5": {},
    "CFG 12": {"cfg_scale": 12},
    "CFG 5": {"cfg_scale": 5},
    "CFG 3": {"cfg_scale": 3},
    "CFG 1": {"cfg_scale": 1},
    "negative prompt, a caption": {"negative_prompt": "a red circle on a striped background"},
    "negative prompt, of quality": {"negative_prompt": "low quality, blurry, watermark"},
    "Euler a 30": {"sampler_name": "Euler a", "steps": 30},
    "DPM++ 2M Karras 25": {"sampler_name": "DPM++ 2M", "scheduler": "Karras", "steps": 25},
    "DDIM 20": {"sampler_name": "DDIM"},
    "DDIM 10": {"sampler_name": "DDIM", "steps": 10},
    "DDIM 20, CFG 3": {"sampler_name": "DDIM", "cfg_scale": 3},
    "DDIM CFG++ 12": {"sampler_name": "DDIM CFG++", "steps": 12},
    "DPM2 a 20": {"sampler_name": "DPM2 a"},
    "UniPC 12": {"sampler_name": "UniPC", "steps": 12},
    "Euler 10": {"steps": 10},
    "Euler 50": {"steps": 50},
    "img2img .75": {"page": "img2img", "denoising_strength": 0.75},
    "img2img .75, CFG 1": {"page": "img2img", "denoising_strength": 0.75, "cfg_scale": 1},
    "img2img .5": {"page": "img2img", "denoising_strength": 0.5},
}


def calibrate(webui):
    """A calibration by default: how long it took, in seconds, and how many images it sampled."""
    start = time.monotonic()
    status, answer = webui.call("/memstab/v1/calibrate", {"width": 128, "height": 128}, "POST")
    assert status == 202, answer
    while webui.call("/memstab/v1/calibrate")[1]["state"] in ("waiting", "running"):
        time.sleep(1)
    progress = webui.call("/memstab/v1/calibrate")[1]
    assert progress["state"] == "done", progress
    return time.monotonic() - start, progress["total"]


def seconds_each(webui, count=64, batch=4):
    """Seconds for a picture of txt2img with MemStab off, in batches as a calibration's; the first one warms up."""
    webui.sample("a red circle", batch_size=batch)
    start = time.monotonic()
    webui.sample("a red circle", batch_size=batch, n_iter=count // batch)
    return (time.monotonic() - start) / count


def each(webui, samplers, schedulers):
    """A way of sampling for each sampler that the WebUI has, at so many steps, or for each of its schedulers."""
    if samplers:
        names = [one["name"] for one in webui.call("/sdapi/v1/samplers")[1]]
        return {f"{name} {samplers}": {"sampler_name": name, "steps": samplers} for name in names}
    names = [one["label"] for one in webui.call("/sdapi/v1/schedulers")[1]]
    return {f"Euler {name} {schedulers}": {"scheduler": name, "steps": schedulers} for name in names}


def row(webui, known, name, how, memorized, ordinary):
    """One way of sampling: name, false alarms, hits, and whether the profile says it is for that."""
    if "page" in how:
        how = {**how, "init_images": [webui.one("a red circle next to a blue star on a striped white background").data]}
    plain, copies = (pictures_of(webui, trials, {"mode": "detect"}, **how) for trials in (ordinary, memorized))
    pairs = zip(copies, memorized, strict=True)
    copied = [one for one, trial in pairs if known.similarity(one, trial.text) > truth.COPY_THRESHOLD]
    alarms, hits = (sum(one.report.verdict == "flagged" for one in some) for some in (plain, copied))
    return [name, share(alarms, len(plain)), share(hits, len(copied)), plain[0].report.profile.match]


def main():
    parser = argparse.ArgumentParser(description="False alarms and hits after a calibration by default.")
    parser.add_argument("--webui", default=os.environ.get("MEMSTAB_WEBUI"), help="the WebUI's folder, or its address")
    parser.add_argument("--ordinary", type=int, default=200, help="pictures of ordinary prompts in each way")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--only", nargs="*", choices=WAYS, default=list(WAYS), help="ways of sampling")
    ways.add_argument("--samplers", nargs="?", type=int, const=20, help="each of the WebUI's, at so many steps (20)")
    ways.add_argument("--schedulers", nargs="?", type=int, const=20, help="each of the WebUI's, with Euler")
    args = parser.parse_args()
    if not args.webui:
        parser.error("no WebUI: say where with --webui FOLDER or MEMSTAB_WEBUI=FOLDER")
    torch.set_num_threads(1)
    split = load_splits()["tuning"]
    memorized = memorized_trials(split, 1, SEED_BASES["memorized"], ("heavy", "medium"))
    ordinary = plain_trials(split["ordinary"][: args.ordinary], SEED_BASES["ordinary"])
    known = Truth(load_lab_model(), split["memorized"])

    def measure(webui):
        plain = seconds_each(webui)
        seconds, images = calibrate(webui)
        print(f"calibrated in {seconds:.0f} s, {images} images, {seconds / images:.2f} s each")
        print(f"a picture of txt2img takes {plain:.2f} s: as long as {seconds / plain:.0f} of these")
        rows = []
        every = args.samplers or args.schedulers
        chosen = each(webui, args.samplers, args.schedulers) if every else {name: WAYS[name] for name in args.only}
        for name, how in chosen.items():
            rows.append(row(webui, known, name, how, memorized, ordinary))
            print(*rows[-1], sep=", ", flush=True)
        print(table(["way of sampling", "ordinary pictures flagged", "copies flagged", "profile"], rows))

    if args.webui.startswith("http"):
        measure(Client(args.webui))
    else:
        with tempfile.TemporaryDirectory() as data, running(args.webui, Path(data), "--api") as client:
            measure(client)


if __name__ == "__main__":
    main()
