"""`python -m lib_memstab attack`: try to get memorized pictures out of a model while MemStab suppresses them.

Exit codes: 1 if attackers who do not hold the training picture got it in more than 1 % of their attempts, else 0; 2 for
bad use or a WebUI that does not do what is asked, 130 if it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lib_memstab.cli import BAD_USE, FINDING, UseError
from lib_memstab.core.plain import to_plain
from lib_memstab.evidence.attack import ALLOWED, FULL, Journal, Plan, attack, markdown, overall, rates
from lib_memstab.evidence.audit_table import shown
from lib_memstab.evidence.descriptors import DescriptorError
from lib_memstab.evidence.journal import JournalError
from lib_memstab.evidence.live import attacking
from lib_memstab.evidence.live.attacking import SEEDS
from lib_memstab.evidence.live.attacks import LIVE_ATTACKS
from lib_memstab.evidence.progress import bar
from lib_memstab.evidence.prompt_lists import PromptListError
from lib_memstab.evidence.similarity_command import SSCD_HELP
from lib_memstab.evidence.verify.plan import SourceError
from lib_memstab.evidence.verify.references import TrainingPictureError
from lib_memstab.evidence.webui import WebUIError
from lib_memstab.evidence.webui_call import ONLY_HERE, add_run, refuse
from lib_memstab.lab.attacks import ATTACKS
from lib_memstab.lab.tools import given

log = logging.getLogger("memstab")

JOURNAL = "attack.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m lib_memstab attack`."""
    parser.add_argument("--full", action="store_true", help="all prompts and more effort: hours on two CPU cores")
    both = list(dict.fromkeys((*ATTACKS, *LIVE_ATTACKS)))
    parser.add_argument("--attacks", nargs="+", choices=both, metavar="NAME", help=f"some of: {'; '.join(both)}")
    parser.add_argument("--split", choices=("tuning", "final"), help="whose memorized prompts (tuning)")
    parser.add_argument("--prompts", type=_count, help=f"memorized prompts ({Plan.prompts}; all of them with --full)")
    parser.add_argument(
        "--seeds", type=_count, help=f"pictures of each prompt ({Plan.seeds}; --full {FULL.seeds}; --webui {SEEDS})"
    )
    parser.add_argument(
        "--inverted",
        type=_count_or_none,
        help=f"prompts that gradient attacks try, 0 for none ({Plan.inverted}; --full {FULL.inverted})",
    )
    parser.add_argument(
        "--steps",
        nargs="+",
        type=_count,
        metavar="N",
        help="gradient steps after which pictures are sampled; with --webui one number, the sampling steps (20)",
    )
    parser.add_argument(
        "--penalties", nargs="+", type=float, metavar="X", help="weights of MemStab's statistic in an attacker's loss"
    )
    parser.add_argument(
        "--sensitivity", type=float, help=f"of MemStab: about one false alarm in N ({Plan.sensitivity:g})"
    )
    parser.add_argument("--strength", type=float, help=f"of MemStab ({Plan.strength:g})")
    parser.add_argument("--jobs", type=_count, help="processes, of one thread each (2)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"folder for {JOURNAL}, which a second call goes on with; with --webui its result (attack)",
    )
    add_run(parser, "captions that attacks join to the prompt (a few everyday ones)", own=("steps", "sensitivity"))
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="FOLDER",
        help="with --webui: training pictures, named as the list's index or as the file its address ends in; without "
        "them an attempt succeeds if it is like a picture that two seeds of the plain prompt give",
    )
    parser.add_argument("--sscd", type=Path, metavar="FILE", help=f"with --webui: {SSCD_HELP}")


def run(args: argparse.Namespace) -> int:
    """Attack and tell."""
    try:
        _check(args)
        if args.webui:
            return attacking.run(argparse.Namespace(**{**vars(args), "steps": args.steps and args.steps[0]}))
        plan = _plan(args)
        path = None
        if args.out is not None:
            args.out.mkdir(parents=True, exist_ok=True)
            path = args.out / JOURNAL
        journal = Journal(path, plan)
        with bar("unit") as progress:
            attempts = attack(plan, args.attacks or list(ATTACKS), journal, args.jobs or 2, progress)
    except (UseError, DescriptorError, JournalError, PromptListError, TrainingPictureError) as error:
        log.error("attack: %s", shown(str(error)))
        return BAD_USE
    except (SourceError, WebUIError, OSError) as error:
        log.error("attack: %s", shown(str(error)))
        return BAD_USE
    whole = overall(attempts)
    if args.json:
        found = {
            "plan": to_plain(asdict(plan)),
            "rows": rates(attempts),
            "without_picture": whole,
            "attempts": [to_plain(one) for one in attempts],
        }
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        sys.stdout.write(f"{markdown(attempts)}\n")
    return FINDING if whole["copies_with"] > ALLOWED * whole["attempts"] else 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what belongs to the other of the two: a WebUI, or the lab model."""
    if args.webui:
        of_the_lab = ("full", "split", "prompts", "inverted", "penalties", "strength", "jobs")
        refuse(args, of_the_lab, "is for the lab model, and --webui asks another one")
        if args.steps and len(args.steps) > 1:
            raise UseError("with --webui --steps is one number: the sampling steps")
    else:
        refuse(args, (*ONLY_HERE, "reference", "sscd"), "belongs to --webui: give its address")
    known, where = (LIVE_ATTACKS, "through a WebUI") if args.webui else (ATTACKS, "on the lab model")
    other = [name for name in args.attacks or () if name not in known]
    if other:
        raise UseError(f"there is no attack {other[0]!r} {where}: it has {'; '.join(known)}")


def _plan(args: argparse.Namespace) -> Plan:
    named: dict[str, Any] = given(args, "split", "prompts", "seeds", "inverted", "sensitivity", "strength")
    for name in ("steps", "penalties"):
        if getattr(args, name):
            named[name] = tuple(sorted(set(getattr(args, name))))
    plan = replace(FULL if args.full else Plan(), **named)
    if plan.sensitivity <= 1 or not 0 <= plan.strength <= 1 or min(plan.penalties) < 0:
        raise UseError("--sensitivity is above 1, --strength from 0 to 1, and penalties are not below 0")
    return plan


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return count


def _count_or_none(text: str) -> int:
    return 0 if text == "0" else _count(text)
