"""What the commands that ask a running WebUI have in common: its address, lists of prompts, and how is sampled."""

from __future__ import annotations

import argparse
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

from lib_memstab.cli import UseError
from lib_memstab.core.report import DEFAULT_SENSITIVITY
from lib_memstab.evidence.audit_table import shown
from lib_memstab.evidence.prompt_lists import PromptList, read_list
from lib_memstab.evidence.verify.plan import Sampling
from lib_memstab.evidence.webui import WebUI

log = logging.getLogger("memstab")

LOGIN = "MEMSTAB_WEBUI_AUTH"
"""Environment variable with USER:PASSWORD, which a command line would show to everyone on the machine."""

BROKEN_TOLD = 10
"""Broken lines of a list that are told one by one."""

SIDE = 512
"""Width and height where none is given, in pixels."""

ONLY_HERE = ("auth", "prompts_file", "ordinary", "limit", "sampler", "scheduler", "cfg", "width", "height")
"""Options that mean nothing without a WebUI, as `args` names them."""

_OPTIONS = ("sampler", "scheduler", "steps", "cfg", "width", "height", "sensitivity")


def add_address(group: argparse._ActionsContainer) -> None:
    """`--webui`."""
    group.add_argument(
        "--webui", metavar="ADDRESS", help="a running WebUI with --api and MemStab: http://127.0.0.1:7860"
    )


def add_login(group: argparse._ActionsContainer) -> None:
    """`--auth`."""
    group.add_argument(
        "--auth", metavar="USER:PASSWORD", help=f"login of the WebUI's --api-auth; better in the variable {LOGIN}"
    )


def add_sampling(group: argparse._ActionsContainer, sides: str, own: Sequence[str] = ()) -> None:
    """How is sampled; `sides` are the default ones in words, `own` the options that the command has already."""
    kinds = {"steps": int, "cfg": float, "width": int, "height": int, "sensitivity": float}
    words = {
        "sampler": f"as the WebUI names it ({Sampling.sampler})",
        "scheduler": "as the WebUI names it; left out, its own choice",
        "steps": f"({Sampling.steps})",
        "cfg": f"guidance scale ({Sampling.guidance})",
        "width": f"({sides})",
        "height": f"({sides})",
        "sensitivity": f"as in the accordion ({DEFAULT_SENSITIVITY:g})",
    }
    for name in _OPTIONS:
        if name not in own:
            group.add_argument(f"--{name}", type=kinds.get(name, str), help=words[name])


def add_run(parser: argparse.ArgumentParser, ordinary: str, own: Sequence[str] = ()) -> None:
    """The options of a run on a WebUI; `ordinary` says what its ordinary prompts are for, `own` is there already."""
    group = parser.add_argument_group("on a running WebUI")
    add_address(group)
    add_login(group)
    group.add_argument(
        "--prompts-file",
        nargs="+",
        type=Path,
        metavar="LIST",
        help="prompts to try, as JSONL, CSV, parquet or text, one prompt a line",
    )
    group.add_argument("--ordinary", nargs="+", type=Path, metavar="LIST", help=ordinary)
    group.add_argument("--limit", type=int, metavar="N", help="only the first N prompts of each list")
    add_sampling(group, str(SIDE), own)


def refuse(args: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """UseError if the call has one of these options."""
    values = ((name, getattr(args, name)) for name in names)
    given = [f"--{name.replace('_', '-')}" for name, value in values if value is not None and value is not False]
    if given:
        raise UseError(f"{given[0]} {why}")


def sampling_of(args: argparse.Namespace, side: int) -> Sampling:
    """How is sampled, as the call says; UseError for what cannot be."""
    fields = {name: "guidance" if name == "cfg" else name for name in _OPTIONS}
    named = {field: getattr(args, name) for name, field in fields.items() if getattr(args, name) is not None}
    sampling = Sampling(**{"width": side, "height": side, **named})
    numbers = 1 <= sampling.guidance < math.inf and 1 < sampling.sensitivity < math.inf
    if not 2 <= sampling.steps <= 1000 or not numbers:
        raise UseError("--steps is 2 to 1000, --cfg 1 or more, --sensitivity above 1")
    if any(not (64 <= side <= 4096 and side % 8 == 0) for side in (sampling.width, sampling.height)):
        raise UseError("--width and --height are 64 to 4096, in steps of 8")
    return sampling


def webui_of(args: argparse.Namespace) -> WebUI:
    """The WebUI of `--webui`, with the login of `--auth` or the environment; WebUIError for what is no address."""
    return WebUI(args.webui, args.auth or os.environ.get(LOGIN, ""))


def read_lists(paths: Sequence[Path]) -> list[PromptList]:
    """The lists, their broken lines told; PromptListError and OSError as `read_list` has them."""
    lists = [read_list(path) for path in paths]
    for one in lists:
        for broken in one.broken[:BROKEN_TOLD]:
            log.warning("%s, line %d is left out: %s", shown(one.name), broken.line, shown(broken.reason))
        if len(one.broken) > BROKEN_TOLD:
            log.warning("%s: %d more lines are left out", shown(one.name), len(one.broken) - BROKEN_TOLD)
    return lists
