"""`python -m lib_memstab demo`: the method at work on the lab model, as pictures with badges, sheet, curve and table.

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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from lib_memstab import __version__, badge
from lib_memstab.cli import BAD_USE, FINDING, columns
from lib_memstab.core.monitor import Settings
from lib_memstab.core.profile import ProfileError
from lib_memstab.core.report import Trace
from lib_memstab.lab import pictures
from lib_memstab.lab.demonstration import MODES, DemoError, Lab, Mode, Shot, Subject, choose, load_lab, shoot
from lib_memstab.lab.experiment import CHECKPOINT, SCHEDULE, load_splits
from lib_memstab.lab.pictures import Cells, Tile
from lib_memstab.lab.sampling import Job
from lib_memstab.plots import save_figure

log = logging.getLogger("memstab")

JOB = Job(prompts=(), seeds=())
MANIFEST = "memstab-demo.json"
SHEET, CURVE, PICTURES = "contact-sheet.png", "curve.png", "pictures"
HEADINGS = ("Training picture", "Unmitigated", "Suppressed", "Ordinary prompt")
SEEDS = range(1, 9)
WIDEST = 36


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m lib_memstab demo`."""
    parser.add_argument("--out", type=Path, default=Path("memstab-demo"), help="folder to write (memstab-demo)")
    parser.add_argument("--seeds", type=int, choices=SEEDS, default=2, metavar="N", help="1 to 8 pictures of each (2)")
    parser.add_argument("--prompts", nargs="+", default=[], metavar="PROMPT", help="prompts of your own to sample too")


def run(args: argparse.Namespace) -> int:
    """Sample, write and tell; 0 if every copy was found and suppressed and no ordinary picture touched, else 1."""
    start = time.perf_counter()
    try:
        refuse_foreign(args.out)
        lab = load_lab(JOB)
        subjects = choose(load_splits()["tuning"]) + [Subject(text, "yours") for text in args.prompts]
        with tqdm(total=len(MODES) * JOB.steps, unit="step", disable=None) as bar:

            def advance(mode: Mode) -> None:
                bar.set_description(mode, refresh=False)
                bar.update()

            shots = shoot(lab, subjects, args.seeds, JOB, Settings(), advance)
        findings = findings_of(shots)
        with replacing(args.out) as folder:
            write(folder, lab, shots, JOB, findings)
    except (DemoError, ProfileError, OSError) as error:
        log.error("demo: %s", error)
        return BAD_USE
    seconds = time.perf_counter() - start
    if args.json:
        told = {"out": str(args.out), "seconds": round(seconds, 1), **_result(shots, findings)}
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
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
    return columns([heads, *(_cells(shot.row()) for shot in shots)])


def write(folder: Path, lab: Lab, shots: Sequence[Shot], job: Job, findings: Sequence[str]) -> None:
    """Write pictures, contact sheet, curve and, last, the manifest with the table into an empty folder."""
    (folder / PICTURES).mkdir()
    decoded: dict[Mode, list[Image.Image]] = {}
    for mode in MODES:
        latents = torch.stack([shot.latents[mode] for shot in shots])
        decoded[mode] = pictures.to_pictures(lab.model.decode(latents))
        for number, (shot, picture) in enumerate(zip(shots, decoded[mode], strict=True), start=1):
            name = f"{number:02d}-{shot.subject.kind}-seed{shot.seed}-{mode}.png"
            picture.save(folder / PICTURES / name, pnginfo=_png_info(lab, shot, mode, job))
    contact_sheet(shots, decoded).save(folder / SHEET, optimize=True)
    save_figure(pictures.curve_figure(_curves(shots), _bounds(lab, shots[0], job.guidance)), folder / CURVE)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    content = {"program": "memstab demo", "version": __version__, "files": files, **_result(shots, findings)}
    (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def contact_sheet(shots: Sequence[Shot], decoded: dict[Mode, list[Image.Image]]) -> Image.Image:
    """Training, unmitigated and suppressed pictures of each memorized prompt, beside those of an ordinary one."""
    places: dict[tuple[str, str], list[int]] = {}
    for index, shot in enumerate(shots):
        places.setdefault((shot.subject.kind, shot.subject.text), []).append(index)
    subjects = [shots[indices[0]].subject for indices in places.values()]

    def cells(subject: Subject, mode: Mode, caption: str = "") -> Cells:
        indices = places[subject.kind, subject.text]
        return Cells([_tile(shots[index], decoded[mode][index], mode) for index in indices], caption)

    rows = []
    memorized = [subject for subject in subjects if subject.pair is not None]
    ordinary = [subject for subject in subjects if subject.kind == "ordinary"]
    for recalled, plain in zip(memorized, ordinary, strict=True):
        training = Cells([Tile(recalled.training_picture())], _caption(recalled))
        beside = cells(plain, "suppress", _caption(plain))
        rows.append((training, cells(recalled, "off"), cells(recalled, "suppress"), beside))
    return pictures.contact_sheet(HEADINGS, rows)


def refuse_foreign(out: Path) -> None:
    """Raise DemoError unless `out` is free: not there, empty, or holding nothing but what an earlier demo wrote."""
    if not out.exists():
        return
    if not out.is_dir():
        raise DemoError(f"{out} is no folder: name another with --out")
    present = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    try:
        known = {MANIFEST, *json.loads((out / MANIFEST).read_text(encoding="utf-8"))["files"]} if present else set()
    except (OSError, ValueError, KeyError, TypeError):
        raise DemoError(f"{out} holds files that are not the demo's: name another folder with --out") from None
    if foreign := sorted(present - known):
        raise DemoError(f"{out} also holds {foreign[0]}, which the demo did not write: move it or choose another --out")


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of `out` once everything is in it; until then, and on failure, `out` stays.

    Raises:
        DemoError: as `refuse_foreign`.
    """
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as name:
        new, old = Path(name) / "new", Path(name) / "old"
        new.mkdir()
        yield new
        refuse_foreign(out)
        if out.exists():
            out.rename(old)
        try:
            new.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise


def _result(shots: Sequence[Shot], findings: Sequence[str]) -> dict[str, Any]:
    return {"findings": list(findings), "images": [shot.row() for shot in shots]}


def _png_info(lab: Lab, shot: Shot, mode: Mode, job: Job) -> PngInfo:
    """An image's text chunks: the parameters as the WebUI writes them and, if it was watched, its badge."""
    entries = {
        "Steps": str(job.steps),
        "Sampler": job.sampler,
        "Schedule type": SCHEDULE,
        "CFG scale": f"{job.guidance:g}",
        "Seed": str(shot.seed),
        "Size": f"{job.width}x{job.height}",
        "Model hash": lab.sha256[:10],
        "Model": CHECKPOINT.stem,
    }
    report = shot.reports.get(mode)
    if report is not None:
        settings = badge.JobSettings(report.mode, report.sensitivity, report.strength)
        entries |= badge.infotext(settings, report)
    parameters = f"{shot.subject.text}\n" + ", ".join(f"{key}: {value}" for key, value in entries.items())
    if report is not None:
        return badge.png_info(report, parameters)
    info = PngInfo()
    info.add_text("parameters", parameters)
    return info


def _curves(shots: Sequence[Shot]) -> dict[str, list[Trace]]:
    """The traces of copies, of the same images under suppression, and of ordinary images; empty sets left out."""
    copies = [shot for shot in shots if shot.copied("off")]
    sets = {
        "memorized, unmitigated": [shot.reports["detect"].trace for shot in copies],
        "memorized, suppressed": [shot.reports["suppress"].trace for shot in copies],
        "ordinary": [shot.reports["detect"].trace for shot in shots if shot.subject.kind == "ordinary"],
    }
    return {name: traces for name, traces in sets.items() if traces}


def _bounds(lab: Lab, shot: Shot, guidance: float) -> Trace:
    """The region's bounds where this shot was evaluated, at the sensitivity that it was judged with."""
    report = shot.reports["detect"]
    starts, tables = lab.region.tables(guidance)
    level = np.log(np.array(report.trace.sigma, dtype=np.float64))
    nearest = tables[np.abs(starts - level[0]).argmin()]
    mean, deviation = (np.interp(level, lab.region.log_sigma, row) for row in nearest)
    width = lab.region.threshold(report.sensitivity) * deviation
    low, high = (tuple(np.exp(mean + side * width).tolist()) for side in (-1, 1))
    return replace(report.trace, low=low, high=high)


def _tile(shot: Shot, picture: Image.Image, mode: Mode) -> Tile:
    """A picture with what is to be said of it: its likeness to the training picture, or whether it was touched."""
    if shot.similarity is None:
        return Tile(picture, "untouched" if shot.untouched(mode) else "touched")
    likeness = f"{shot.similarity[mode]:.2f}"
    return Tile(picture, f"{likeness}, {'copy' if shot.copied(mode) else 'no copy'}", framed=shot.copied(mode))


def _caption(subject: Subject) -> str:
    return f"{subject.kind}: “{subject.text}”"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    likeness, copy, p_value = "-", "-", "-"
    if row["similarity_off"] is not None:
        likeness = f"{row['similarity_off']:.2f} -> {row['similarity_suppressed']:.2f}"
        copy = " -> ".join("yes" if row[name] else "no" for name in ("copy_off", "copy_suppressed"))
    if row["p_value"] is not None:
        p_value = "<0.0001" if row["p_value"] < 1e-4 else f"{row['p_value']:.2g}"
    text = row["prompt"] if len(row["prompt"]) <= WIDEST else f"{row['prompt'][: WIDEST - 1]}…"
    return (
        text,
        row["kind"],
        str(row["seed"]),
        likeness,
        copy,
        row["verdict"],
        "-" if row["score"] is None else f"{row['score']:.3g}",
        p_value,
        str(row["from_step"] or "-"),
        "bit for bit" if row["bit_identical_to_off"] else "no",
    )


def _outcome(findings: Sequence[str]) -> str:
    if not findings:
        return "Every copy was flagged and suppressed; every ordinary picture is untouched."
    return "\n".join(f"Finding: {finding}" for finding in findings)
