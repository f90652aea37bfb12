"""What the commands that ask a running WebUI have in common: its address, lists of prompts, and how is sampled."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from lib_memstab.cli import UseError
from lib_memstab.core.report import DEFAULT_SENSITIVITY
from lib_memstab.evidence.audit_table import shown
from lib_memstab.evidence.prompt_lists import PromptList, read_list
from lib_memstab.evidence.verify.plan import Sampling
from lib_memstab.evidence.webui import WebUI
from lib_memstab.lab.tools import given

log = logging.getLogger("memstab")

LOGIN = "MEMSTAB_WEBUI_AUTH"
"""Environment variable with USER:PASSWORD, which a command line would show to everyone on the machine."""

BROKEN_TOLD = 10
"""Broken lines of a list that are told one by one."""

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


def sampling_of(args: argparse.Namespace, side: int) -> Sampling:
    """How is sampled, as the call says; UseError for what cannot be."""
    named = given(args, *(name for name in _OPTIONS if name != "cfg"))
    if args.cfg is not None:
        named["guidance"] = args.cfg
    sampling = Sampling(**{"width": side, "height": side, **named})
    if not 2 <= sampling.steps <= 1000 or not sampling.guidance >= 1 or not sampling.sensitivity > 1:
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
