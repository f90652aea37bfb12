"""`python -m lib_memstab extract`: prompts that give the same picture whatever the seed; folders, a WebUI, or the lab.

Exit codes: 0 if no prompt counts as memorized, 1 if one does (through a WebUI and on the lab model: with suppression),
2 for bad use or a WebUI that does not do what is asked, 130 if it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from lib_memstab.cli import BAD_USE, FINDING, UseError, columns
from lib_memstab.evidence.audit import pictures_in
from lib_memstab.evidence.audit_table import shown
from lib_memstab.evidence.extract_folder import Group, Skipped, by_evidence, finite, groups, to_plain
from lib_memstab.evidence.extraction import CLIQUE, DISTANCE
from lib_memstab.evidence.progress import Progress, bar
from lib_memstab.evidence.verify.plan import SourceError
from lib_memstab.evidence.webui import WebUIError
from lib_memstab.evidence.webui_call import ONLY_HERE, add_run, refuse

log = logging.getLogger("memstab")

WIDEST = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m lib_memstab extract`."""
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="DIR",
        help="folders of pictures that were made already; without any, and without --webui, the lab model is sampled "
        "and held against the truth",
    )
    parser.add_argument(
        "--distance",
        type=float,
        help=f"below which two pictures are near-duplicates, 0 to 1 ({DISTANCE:g}; on the lab model chosen anew)",
    )
    parser.add_argument("--clique", type=int, default=CLIQUE, help=f"pictures that have to be so ({CLIQUE})")
    parser.add_argument("--seeds", type=int, help="pictures of each prompt, through a WebUI or on the lab model (6)")
    add_run(parser, "prompts that nothing is expected of, to see how often one is found by chance")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="with --webui: journal, result and sheet of pictures; a second call goes on (extract)",
    )
    lab = parser.add_argument_group("on the lab model")
    lab.add_argument("--split", choices=("tuning", "final"), help="whose prompts (tuning)")
    lab.add_argument("--prompts", type=int, help="of each of six kinds (5)")
    lab.add_argument("--jobs", type=int, help="processes, of one thread each (2)")


def run(args: argparse.Namespace) -> int:
    """Look for near-duplicates and tell; 1 if a prompt counts as memorized."""
    try:
        _check(args)
        if args.webui:
            # As does a run on a WebUI, for its tables and its sheet.
            from lib_memstab.evidence.live import extracting

            return extracting.run(args)
        with bar("file" if args.paths else "prompt") as progress:
            if args.paths:
                distance = DISTANCE if args.distance is None else args.distance
                found, skipped = groups(pictures_in(args.paths), distance, args.clique, progress)
                return _tell_folder(args, list(by_evidence(found)), skipped)
            return _measure_lab(args, progress)
    except (ValueError, OSError, SourceError, WebUIError) as error:
        log.error("extract: %s", shown(str(error)))
        return BAD_USE


def _measure_lab(args: argparse.Namespace, progress: Progress) -> int:
    # The lab needs far more than a look through folders does.
    from lib_memstab.evidence import extract_lab
    from lib_memstab.lab.tools import given

    plan = extract_lab.Plan(**given(args, "split", "prompts", "seeds", "clique", "distance"))
    if plan.seeds < plan.clique:
        raise UseError(
            f"{plan.seeds} pictures of a prompt have no clique of {plan.clique}: more --seeds, or --clique less"
        )
    result = extract_lab.measure(plan, args.jobs or 2, progress)
    sys.stdout.write((json.dumps(finite(result), indent=1) if args.json else extract_lab.markdown(result)) + "\n")
    return FINDING if result["rows"][1]["found"] else 0


def _tell_folder(args: argparse.Namespace, found: Sequence[Group], skipped: Sequence[Skipped]) -> int:
    if args.json:
        sys.stdout.write(json.dumps(to_plain(found, skipped), indent=1) + "\n")
    else:
        sys.stdout.write(words(found, skipped, args.clique))
    return FINDING if any(one.found.memorized for one in found) else 0


def words(found: Sequence[Group], skipped: Sequence[Skipped], clique: int) -> str:
    """The prompts with enough pictures, in columns for a terminal, and what was left out."""
    enough = [one for one in found if one.found.pictures >= clique]
    few = len(found) - len(enough)
    lines = []
    if enough:
        heads = ("near-duplicates", "of pictures", "distance", "MemStab", "prompt", "one of them")
        lines += [columns([heads, *map(_cells, enough)])]
    lines.append(
        f"{sum(one.found.memorized for one in enough)} of {len(enough)} prompts give the same picture again and again."
    )
    if few:
        lines.append(f"{few} more had fewer than {clique} pictures, so nothing is known about them.")
    if skipped:
        lines.append(
            f"{len(skipped)} files were left out, such as {shown(str(skipped[0].path))}: {shown(skipped[0].reason)}."
        )
    return "\n".join(lines) + "\n"


def _cells(one: Group) -> Sequence[str]:
    prompt = shown(one.prompt)
    return (
        str(len(one.found.clique)) + (" !" if one.found.memorized else ""),
        str(one.found.pictures),
        f"{one.found.tightest:.3f}",
        "suppressed" if one.suppressed else ", ".join(f"{count} {state}" for state, count in one.states.items()),
        prompt if len(prompt) <= WIDEST else f"{prompt[: WIDEST - 1]}…",
        shown(str(one.paths[one.found.clique[0]])),
    )


def _check(args: argparse.Namespace) -> None:
    """Refuse what would only fail after a long walk."""
    for path in args.paths:
        if not path.exists():
            raise UseError(f"there is no folder {shown(str(path))}: check the path")
    if args.clique < 2:
        raise UseError("--clique is 2 or more: one picture is always like itself")
    if args.distance is not None and not 0 < args.distance <= 1:
        raise UseError("--distance is above 0 and at most 1")
    if args.webui:
        refuse(args, ("split", "prompts", "jobs"), "is for the lab model, and --webui asks another one")
        if args.paths:
            raise UseError("give folders or --webui: the one is of pictures that were made already")
    else:
        refuse(args, (*ONLY_HERE, "steps", "sensitivity", "out"), "belongs to --webui: give its address")
    if any(number is not None and number < 1 for number in (args.prompts, args.seeds, args.jobs)):
        raise UseError("--prompts, --seeds and --jobs are 1 or more")
