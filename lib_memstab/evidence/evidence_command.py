"""`python -m lib_memstab evidence`: every claim of MemStab held against the lab model, as one table.

Runs the commands that make the evidence, one after the other, each with its result kept in a folder: a second call does
what is missing. Exit codes: 0 if every claim holds, 1 if one does not, 2 if a command could not be followed, 130 if it
was interrupted.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lib_memstab.cli import BAD_USE, FINDING, INTERRUPTED, UseError, columns
from lib_memstab.core.files import write_whole

log = logging.getLogger("memstab")

ATTACKED = 0.01
"""Largest share of attempts that may get a copy past MemStab without the training picture."""

TABLE = "evidence.json"
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Line:
    """One line of the table: what was held against the lab, without and with MemStab, and whether the claim holds."""

    what: str
    without: str
    with_it: str
    holds: bool


@dataclass(frozen=True)
class Part:
    """One command: its name, arguments in full and in short, and what its JSON says."""

    name: str
    command: Sequence[str]
    short: Sequence[str]
    lines: Callable[[Mapping[str, Any]], list[Line]]


def verified(found: Mapping[str, Any]) -> list[Line]:
    """Of `verify`: ranking, copies before and after, and pixel identity."""
    figures = found["figures"]
    ranks = figures["detection"]["replayed without MemStab"]
    memorized, identical = figures["memorization"]["all"], figures["identical"]
    lines = [
        Line(
            f"AUC of copies against ordinary pictures, {name}",
            "",
            f"{rank['auc']:.4f} [{rank['auc_interval'][0]:.4f}, {rank['auc_interval'][1]:.4f}]",
            rank["auc"] > 0.9,
        )
        for name, rank in ranks.items()
        if rank is not None and name in ("first 3", "all")
    ]
    before, after = memorized["before"], memorized["after"]
    lines.append(
        Line(
            "memorized prompts: pictures that are copies", _of(before), _of(after), after["hits"] < 0.1 * before["hits"]
        )
    )
    flagged = figures["flagged"]["ordinary"]
    lines.append(Line("ordinary pictures that are flagged, 1 in 100 stated", "", _of(flagged), flagged["rate"] < 0.1))
    same, count = identical["ordinary"]["suppress mode, not flagged"]
    lines.append(Line("ordinary pictures not flagged: pixel-identical", "", f"{same} of {count}", same == count))
    return lines


def extracted(found: Mapping[str, Any]) -> list[Line]:
    """Of `extract`: prompts that the attack of Carlini et al. 2023 finds."""
    before, after = (row["found"] for row in found["rows"])
    what = f"prompts that {found['seeds']} seeds show to be memorized (Carlini et al. 2023), of {len(found['prompts'])}"
    return [Line(what, str(before), str(after), after < before or before == after == 0)]


def attacked(found: Mapping[str, Any]) -> list[Line]:
    """Of `attack`: attempts that get a copy, of attackers without and with the training picture."""
    whole = found["without_picture"]
    with_picture = [row for row in found["rows"] if row["attack"].startswith("inversion")]
    attempts, copies = (sum(row[name] for row in with_picture) for name in ("attempts", "copies_without"))
    lines = [
        Line(
            "attempts that get a copy, by attackers who know prompt and MemStab",
            _share(whole["copies_without"], whole["attempts"]),
            _share(whole["copies_with"], whole["attempts"]),
            whole["copies_with"] <= ATTACKED * whole["attempts"],
        )
    ]
    if attempts:
        left = sum(row["copies_with"] for row in with_picture)
        # No claim is made here: whoever holds the picture can hide from the score.
        what = "attempts by gradients of attackers who hold the training picture"
        lines.append(Line(what, _share(copies, attempts), _share(left, attempts), left <= copies))
    return lines


def rivalled(found: Mapping[str, Any]) -> list[Line]:
    """Of `bench --rivals`: ours beside the best of the others.

    Of mitigations, those that keep at least half as many captions: without the prompt at all no copy is left either.
    """
    ranked = {row["method"]: row["detection"]["auc"][-1] for row in found["rows"] if row["detection"]}
    left = {row["method"]: row["mitigation"] for row in found["rows"] if row["mitigation"]}
    ours = next(name for name in ranked if name.startswith("MemStab"))
    own = next(name for name in left if name.startswith("MemStab"))
    best = max((name for name in ranked if name != ours), key=ranked.__getitem__)
    keeping = [name for name in left if name != own and 2 * left[name]["fits"][0] >= left[own]["fits"][0]]
    least = min(keeping, key=lambda name: left[name]["copies"][0])
    return [
        Line(
            f"AUC over all steps beside the best rival, {best}",
            f"{ranked[best]:.4f}",
            f"{ranked[ours]:.4f}",
            ranked[ours] > ranked[best] - 0.01,
        ),
        Line(
            f"copies left beside the best rival that keeps the caption, {least}",
            "{} of {}".format(*left[least]["copies"]),
            "{} of {}".format(*left[own]["copies"]),
            left[own]["copies"][0] <= left[least]["copies"][0],
        ),
    ]


PARTS = (
    Part(
        "verify",
        ("verify", "--lab", "--seeds", "2", "--limit", "60"),
        ("verify", "--lab", "--seeds", "1", "--limit", "6", "--steps", "12"),
        verified,
    ),
    Part(
        "extract",
        ("extract", "--prompts", "5", "--seeds", "6"),
        ("extract", "--prompts", "1", "--seeds", "4"),
        extracted,
    ),
    Part(
        "attack",
        ("attack", "--prompts", "8"),
        ("attack", "--prompts", "2", "--inverted", "1", "--steps", "20", "--penalties", "0"),
        attacked,
    ),
    Part(
        "rivals",
        ("bench", "--rivals", "--split", "tuning", "--seeds", "1", "--ordinary", "60"),
        ("bench", "--rivals", "--split", "tuning", "--memorized", "2", "--ordinary", "8"),
        rivalled,
    ),
)

_OWN_FOLDER = ("verify", "attack")
"""Commands that keep a journal in a folder of their own, and go on with it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m lib_memstab evidence`."""
    parser.add_argument("--short", action="store_true", help="few pictures of each: only which way every claim points")
    parser.add_argument(
        "--only", nargs="+", choices=[part.name for part in PARTS], metavar="PART", help="some of verify, extract, …"
    )
    parser.add_argument("--out", type=Path, default=Path("evidence"), help="folder of the results (evidence)")


def run(args: argparse.Namespace) -> int:
    """Make what is missing, and tell."""
    parts = [part for part in PARTS if not args.only or part.name in args.only]
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        lines = [line for part in parts for line in part.lines(_result(part, args.out, args.short))]
        write_whole(args.out / TABLE, json.dumps([asdict(line) for line in lines], indent=1).encode())
    except (ValueError, OSError) as error:
        log.error("evidence: %s", error)
        return BAD_USE
    sys.stdout.write((json.dumps([asdict(line) for line in lines], indent=1) if args.json else words(lines)) + "\n")
    return 0 if all(line.holds for line in lines) else FINDING


def words(lines: Sequence[Line]) -> str:
    """The table for a terminal."""
    heads = ("claim", "without MemStab, or the rival", "with MemStab", "holds")
    rows = [(line.what, line.without or "-", line.with_it, "yes" if line.holds else "NO") for line in lines]
    return columns([heads, *rows])


def _result(part: Part, folder: Path, short: bool) -> Mapping[str, Any]:
    """What a part's command printed as JSON, from the folder if it is there of the same call."""
    called = [*(part.short if short else part.command), "--json"]
    if part.command[0] in _OWN_FOLDER:
        called += ["--out", str(folder.resolve() / f"{part.name}{'-short' if short else ''}")]
    kept = folder / f"{part.name}{'-short' if short else ''}.json"
    if kept.exists():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if found["command"] == called:
            return dict(found["result"])
    log.info("%s", " ".join(called))
    program = [sys.executable, "-m", "lib_memstab", *called]
    done = subprocess.run(program, stdout=subprocess.PIPE, cwd=ROOT, check=False)
    if done.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    if done.returncode not in (0, FINDING) or not done.stdout.strip():
        raise UseError(f"{' '.join(called)} could not be followed; what it said is above")
    result = json.loads(done.stdout)
    write_whole(kept, json.dumps({"command": called, "result": result}).encode())
    return dict(result)


def _of(rate: Mapping[str, Any]) -> str:
    return _share(rate["hits"], rate["of"])


def _share(hits: int, count: int) -> str:
    return f"{hits} of {count} ({100 * hits / count:.1f} %)" if count else "-"
