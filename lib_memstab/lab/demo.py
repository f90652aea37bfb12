"""`python -m lib_memstab demo`: the method at work on the lab model, as pictures with badges, a sheet, a curve, a table.

Memorized and ordinary prompts are the first of their kind among those for tuning; the final split is not looked at.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from lib_memstab import __version__, badge
from lib_memstab.core.monitor import Settings
from lib_memstab.core.profile import ProfileError
from lib_memstab.lab import pictures
from lib_memstab.lab.demonstration import MODES, SCHEDULE, DemoError, Lab, Mode, Shot, Subject, choose, load_lab, shoot
from lib_memstab.lab.experiment import CHECKPOINT, load_splits
from lib_memstab.lab.pictures import Cells, Tile
from lib_memstab.lab.sampling import Job

log = logging.getLogger("memstab")

JOB = Job(prompts=(), seeds=())
MANIFEST = "memstab-demo.json"
SHEET, CURVE, PICTURES = "contact-sheet.png", "curve.png", "pictures"
HEADINGS = ("Training picture", "Unmitigated", "Suppressed", "Ordinary prompt")
MOST_SEEDS = 8
FINDING, BAD_USE = 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m lib_memstab demo`."""
    parser.add_argument("--out", type=Path, default=Path("memstab-demo"), help="folder to write (default: memstab-demo)")
    parser.add_argument("--seeds", type=_seed_count, default=2, help=f"pictures of each prompt, 1 to {MOST_SEEDS} (2)")
    parser.add_argument("--prompts", nargs="+", default=[], metavar="PROMPT", help="prompts of your own to sample too")


def run(args: argparse.Namespace) -> int:
    """Sample, write and tell; 0 if every copy was found and suppressed and no ordinary picture touched, else 1."""
    start = time.perf_counter()
    settings = Settings()
    try:
        refuse_foreign(args.out)
        lab = load_lab(JOB)
        subjects = choose(load_splits()["tuning"]) + [Subject(text, "yours") for text in args.prompts]
        with tqdm(total=len(MODES) * JOB.steps, unit="step", disable=None) as bar:

            def advance(mode: Mode) -> None:
                bar.set_description(mode, refresh=False)
                bar.update()

            shots = shoot(lab, subjects, args.seeds, JOB, settings, advance)
        findings = findings_of(shots)
        with replacing(args.out) as folder:
            write(folder, lab, shots, JOB, settings, findings)
    except (DemoError, ProfileError, OSError) as error:
        log.error("demo: %s", error)
        return BAD_USE
    seconds = time.perf_counter() - start
    if args.json:
        told = {"out": str(args.out), "seconds": round(seconds, 1), "findings": findings}
        sys.stdout.write(json.dumps({**told, "images": [shot.row() for shot in shots]}, indent=1) + "\n")
    else:
        sys.stdout.write(f"{table(shots)}\n\n{_outcome(findings)}\nWrote {args.out} in {seconds:.0f} s: {SHEET}, ")
        sys.stdout.write(f"{CURVE}, and {PICTURES}/ with a badge in every picture of detect and suppress.\n")
    return FINDING if findings else 0


def findings_of(shots: Sequence[Shot]) -> list[str]:
    """What is not as it should be, image by image; a model that copies nothing shows nothing either."""
    if not any(shot.copied("off") for shot in shots):
        return ["no memorized picture was reproduced, so there was nothing to suppress"]
    return [finding for shot in shots for finding in shot.findings()]


def table(shots: Sequence[Shot]) -> str:
    """The result in columns for a terminal; what changed goes from off -> suppressed."""
    heads = ("prompt", "kind", "seed", "similarity", "copy", "verdict", "score", "p", "from step", "same as off")
    lines = [heads, *(_cells(shot.row()) for shot in shots)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def write(
    folder: Path, lab: Lab, shots: Sequence[Shot], job: Job, settings: Settings, findings: Sequence[str]
) -> None:
    """Write pictures, contact sheet, curve and, last, the manifest with the table into an empty folder."""
    (folder / PICTURES).mkdir()
    decoded: dict[Mode, list[Image.Image]] = {}
    for mode in MODES:
        decoded[mode] = pictures.decode(lab.model, [shot.latents[mode] for shot in shots])
        for number, (shot, picture) in enumerate(zip(shots, decoded[mode], strict=True), start=1):
            name = f"{number:02d}-{shot.subject.kind}-seed{shot.seed}-{mode}.png"
            picture.save(folder / PICTURES / name, pnginfo=_png_info(lab, shot, mode, job, settings))
    contact_sheet(shots, decoded).save(folder / SHEET, optimize=True)
    pictures.save_figure(pictures.curve_figure(_curves(shots)), folder / CURVE)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    told = {"program": "memstab demo", "version": __version__, "files": files, "findings": list(findings)}
    content = json.dumps({**told, "images": [shot.row() for shot in shots]}, indent=1)
    (folder / MANIFEST).write_text(content + "\n", encoding="utf-8")
