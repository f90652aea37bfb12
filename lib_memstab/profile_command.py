"""`python -m lib_memstab profile`: what profiles there are, what one says, whether a file is usable, several as one.

A profile is named by its file, or by its name if it ships with MemStab or lies in the WebUI this MemStab is part of.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np

from lib_memstab.cli import BAD_USE, FINDING, PROGRAM, UseError, add_shared, columns, picture_name
from lib_memstab.core import profile as profiles
from lib_memstab.core.merging import merge
from lib_memstab.core.profile import STATISTIC, Calibration, Mode, Profile, ProfileError, check_name
from lib_memstab.settings import TITLE
from lib_memstab.store import SHIPPED, Store, Stored, profile_files, read_file

log = logging.getLogger("memstab")

SENSITIVITIES = (10, 100, 1000)
"""Sensitivities whose bounds are told."""

SECOND_LOOKS = {
    (True, True): "yes",
    (True, False): "only without a negative prompt: calibrate again to have them with one",
    (False, True): "only with a negative prompt: calibrate again to have them without one",
    (False, False): "no: calibrate again to have them",
}
"""Whether suspicious images get a second look: without and with a negative prompt."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m lib_memstab profile`: commands of its own."""
    commands = parser.add_subparsers(title="commands", dest="action", metavar="ACTION", required=True)

    def command(name: str, words: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=words,
            description=words[:1].upper() + words[1:] + ".",
            epilog=f"example: {PROGRAM} profile {name} {example}".rstrip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        add_shared(sub, default=argparse.SUPPRESS)
        return sub

    one = "a profile's file, or the name of one that ships or lies in the WebUI"
    sub = command("list", "list the profiles of folders, usable or not", "")
    sub.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="where to look (WebUI's and ours)")
    sub = command("show", "tell what a profile was calibrated on and where its bounds are", "memstab-lab")
    sub.add_argument("profile", metavar="NAME_OR_FILE", help=one)
    sub = command("check", "check whether profile files are usable", "profiles/memstab-lab.json")
    sub.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files to check")
    sub = command("merge", "make one profile of several of one checkpoint", "a.json b.json --name both --out .")
    sub.add_argument("profiles", nargs="+", metavar="NAME_OR_FILE", help=one)
    sub.add_argument("--name", required=True, help="the new profile's name")
    sub.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write NAME.json to")
    sub.add_argument("--replace", action="store_true", help="overwrite a profile of that name")
    sub = command("plot", "draw a profile's regions", "memstab-lab --out region.png")
    sub.add_argument("profile", metavar="NAME_OR_FILE", help=one)
    sub.add_argument("--out", type=Path, default=Path("region.png"), help="picture to write, .png or .svg (region.png)")


def run(args: argparse.Namespace) -> int:
    """Do what was asked for; 1 if a profile file is not usable, 2 for bad use."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list,
        "show": _show,
        "check": _check,
        "merge": _merge,
        "plot": _plot,
    }
    try:
        return actions[args.action](args)
    except ProfileError as error:
        log.error("profile: %s", error)
        return FINDING
    except (UseError, OSError) as error:
        log.error("profile: %s", error)
        return BAD_USE


def places() -> list[Path]:
    """Folders that profiles are looked for in: the WebUI's if this MemStab is one of its extensions, then ours."""
    extension = SHIPPED.resolve().parent
    webui = [extension.parents[1] / "models" / TITLE] if extension.parent.name == "extensions" else []
    return [*webui, SHIPPED]


def facts(profile: Profile) -> dict[str, Any]:
    """Everything a person wants to know of a profile, as plain data; curves and peaks are left to the file."""
    content = profile.to_dict()
    content["modes"] = {mode: _mode_facts(profile.modes[mode]) for mode in get_args(Mode) if mode in profile.modes}
    return content


def words(told: dict[str, Any]) -> str:
    """The facts of a profile in words."""
    checkpoint, made, latent = told["checkpoint"], told["versions"], told["latent"]
    known = f"sha256 {checkpoint['sha256'][:10]}…" if checkpoint["sha256"] else "no hash, so never an exact match"
    lines = [
        ("name", told["name"]),
        ("checkpoint", f"{checkpoint['name']} ({known}), {told['prediction']}, {latent['channels']} latent channels"),
        ("made", f"{told['created']} with MemStab {made['memstab']}, torch {made['torch']}, {made['host']}"),
        (
            "measured",
            "{name} of update norms at guidance {reference_guidance}, over {over}".format(**told["statistic"])
            + (", by the smaller norm of a step" if told["statistic"]["smaller_end"] else ""),
        ),
        ("checksum", told["checksum"]),
    ]
    parts = [columns(lines)]
    for mode, own in told["modes"].items():
        covered, bounds = own["covered"], own["bounds"]
        sizes = [f"{width * latent['scale']}x{height * latent['scale']}" for height, width in covered["sizes"]]
        high, low = own["noise_levels"]
        lines = [
            (mode, f"{own['trajectories']} trajectories"),
            ("  prompts", covered["prompts"]),
            ("  samplers", f"{', '.join(covered['samplers'])}; schedule {', '.join(covered['schedulers'])}"),
            ("  steps", f"{_range(covered['steps'])}, CFG {_range(covered['guidance'])}, {', '.join(sizes)} pixels"),
            ("  LoRAs", ", ".join(covered["loras"]) or "none"),
            ("  noise levels", f"{high:.3g} down to {low:.3g}"),
            ("  bounds", ", ".join(f"1 in {number} at score {bound:.2f}" for number, bound in bounds.items())),
            ("  supported", f"up to 1 in {own['supported']}; beyond that a bound rests on the model of the tail"),
            ("  second looks", SECOND_LOOKS[own["second_looks"]["plain"], own["second_looks"]["negative"]]),
        ]
        heads = ("  bands", "CFG", "from noise level", "negative prompt", "trajectories", "likeness")
        parts += [columns(lines), columns([heads, *(_band_cells(band) for band in own["bands"])])]
    return "\n\n".join(parts)


def _list(args: argparse.Namespace) -> int:
    for folder in args.folders:
        if not folder.is_dir():
            raise UseError(f"{folder} is no folder: name one with profiles in it")
    folders = args.folders or places()
    found = [_entry(read_file(path, own=False)) for folder in folders for path in profile_files(folder)]
    broken = [one for one in found if one["error"]]
    if args.json:
        _write_json(found)
    else:
        heads = ("name", "checkpoint", "modes", "trajectories", "1 in N supported", "from")
        table = columns([heads, *(_list_cells(one) for one in found)])
        sys.stdout.write("\n".join([table, *(one["error"] for one in broken)]) + "\n")
    return FINDING if broken else 0


def _show(args: argparse.Namespace) -> int:
    told = facts(_found(args.profile))
    if args.json:
        _write_json(told)
    else:
        sys.stdout.write(words(told) + "\n")
    return 0


def _check(args: argparse.Namespace) -> int:
    found = []
    for path in args.files:
        try:
            data = profiles.read(path)
            profile = profiles.from_bytes(data, str(path))
        except ProfileError as error:
            found.append({"file": str(path), "usable": False, "earlier_form": None, "error": str(error)})
            continue
        if profile.statistic != STATISTIC:
            why = f"{path} was made by a MemStab that measured otherwise, and judges nothing: calibrate again"
            found.append({"file": str(path), "usable": False, "earlier_form": None, "error": why})
            continue
        earlier = data.replace(b"\r\n", b"\n") != profile.to_bytes()
        found.append({"file": str(path), "usable": True, "earlier_form": earlier, "error": None})
    if args.json:
        _write_json(found)
    else:
        sys.stdout.writelines(f"{_verdict(one)}\n" for one in found)
    return 0 if all(one["usable"] for one in found) else FINDING


def _merge(args: argparse.Namespace) -> int:
    parts = [_found(one) for one in args.profiles]
    try:
        merged = merge(parts, check_name(args.name))
        # Only the folder's own files count: a name that ships may be taken.
        path = Store(lambda: args.out, args.out).import_file(merged.to_bytes(), replace=args.replace)
    except ProfileError as error:
        raise UseError(str(error)) from error
    if args.json:
        _write_json({"file": str(path), **facts(merged)})
    else:
        counts = ", ".join(f"{mode} {own['trajectories']}" for mode, own in facts(merged)["modes"].items())
        sys.stdout.write(f"{path}: {len(parts)} profiles, trajectories: {counts}\n")
    return 0


def _plot(args: argparse.Namespace) -> int:
    out = picture_name(args.out)
    profile = _found(args.profile)
    # Only a drawing needs matplotlib.
    from lib_memstab import plots

    plots.save_figure(plots.region_figure(profile), out)
    if args.json:
        _write_json({"profile": profile.name, "out": str(out)})
    else:
        sys.stdout.write(f"{out}\n")
    return 0


def _found(name: str) -> Profile:
    """The profile of that file or name; ProfileError if it is not usable, UseError if there is none."""
    path = Path(name)
    if path.suffix == ".json" or path.is_file():
        if not path.is_file():
            raise UseError(f"there is no file {name}: check the path")
        return profiles.load(path)
    there = [path for folder in places() for path in profile_files(folder)]
    own = next((path for path in there if path.stem == name), None)
    if own is None:
        raise UseError(f"there is no profile {name}: name its file, or one of {', '.join(path.stem for path in there)}")
    return profiles.load(own)


def _mode_facts(calibration: Calibration) -> dict[str, Any]:
    region = calibration.region
    return {
        "covered": asdict(calibration.covered),
        "trajectories": region.count,
        "supported": region.supported,
        "bounds": {str(number): round(region.threshold(number), 3) for number in SENSITIVITIES},
        "noise_levels": [round(float(np.exp(region.log_sigma[end])), 4) for end in (-1, 0)],
        "second_looks": {"plain": region.looks_twice(False), "negative": region.looks_twice(True)},
        "bands": [
            {
                **asdict(band.conditions),
                "count": band.count,
                "likeness": None if band.likeness is None else round(float(np.tanh(band.likeness.mean)), 3),
            }
            for band in region.bands
        ],
    }


def _entry(stored: Stored) -> dict[str, Any]:
    profile = stored.profile
    return {
        "name": stored.name,
        "file": str(stored.path),
        "error": stored.error or None,
        "sha256": profile and profile.checksum,
        "checkpoint": profile and asdict(profile.checkpoint),
        "modes": {
            mode: {name: own[name] for name in ("trajectories", "supported")}
            for mode, own in (facts(profile)["modes"] if profile else {}).items()
        },
    }


def _list_cells(entry: dict[str, Any]) -> Sequence[str]:
    modes, folder = entry["modes"], str(Path(entry["file"]).parent)
    if entry["error"]:
        return entry["name"], "cannot be used", "-", "-", "-", folder
    numbers = (", ".join(str(own[name]) for own in modes.values()) for name in ("trajectories", "supported"))
    return entry["name"], entry["checkpoint"]["name"], ", ".join(modes), *numbers, folder


def _band_cells(band: dict[str, Any]) -> Sequence[str]:
    count = "not recorded" if band["count"] is None else str(band["count"])
    likeness = "-" if band["likeness"] is None else f"{round(band['likeness'], 2) + 0.0:.2f}"
    return "", f"{band['guidance']:g}", f"{band['start']:g}", "yes" if band["negative"] else "no", count, likeness


def _verdict(found: dict[str, Any]) -> str:
    if not found["usable"]:
        return str(found["error"])
    return f"{found['file']}: OK" + (", of an earlier form; it is read all the same" if found["earlier_form"] else "")


def _range(ends: Sequence[float]) -> str:
    low, high = ends
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _write_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")
