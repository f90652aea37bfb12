"""The command line: `python -m lib_memstab COMMAND`.

A command is a module with `add_arguments(parser)` and `run(args) -> int`, imported only when it is named; so the list
of commands, the help and `--setup` work with the standard library alone. `--setup` and `--json` belong to every
command and are added here; a command reads `args.json`.

Exit codes: 0, 1 (a finding) or 2 (bad use, or something is not installed).
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lib_memstab import __version__
from lib_memstab.lab.environment import EnvironmentSetupError, ensure_environment

log = logging.getLogger("memstab")

PROGRAM = "python -m lib_memstab"
FINDING = 1
BAD_USE = 2
INTERRUPTED = 130

FIGURES = (".png", ".svg")
"""How the name of a figure's file ends."""


class UseError(ValueError):
    """A call that cannot be followed; the message says what to do."""


@dataclass(frozen=True)
class Command:
    """One subcommand: the module it lives in, what it does in one line, and a call that works as it stands."""

    module: str
    help: str
    example: str


COMMANDS = {
    "demo": Command(
        "lib_memstab.lab.demo",
        "sample the lab model with and without the method, and write pictures, sheet and curve",
        f"{PROGRAM} demo --setup",
    ),
    "bench": Command(
        "lib_memstab.lab.bench",
        "measure detection and suppression on the final split and print the table",
        f"{PROGRAM} bench --setup --json",
    ),
    "calibrate": Command(
        "lib_memstab.lab.calibrate",
        "calibrate the lab model and write its profile",
        f"{PROGRAM} calibrate --setup --trajectories 64 --out profiles",
    ),
    "profile": Command(
        "lib_memstab.profile_command",
        "list, show, check, merge and plot profiles",
        f"{PROGRAM} profile show memstab-lab",
    ),
    "audit": Command(
        "lib_memstab.evidence.audit_command",
        "tell which pictures in folders are flagged, suppressed, clear or without a badge",
        f"{PROGRAM} audit outputs --csv audit.csv",
    ),
    "verify": Command(
        "lib_memstab.evidence.verify.command",
        "check detection and suppression on prompt lists, through a WebUI or on the lab model",
        f"{PROGRAM} verify --setup --limit 4 --out verify",
    ),
    "similarity": Command(
        "lib_memstab.evidence.similarity_command",
        "measure how well copies are told by their pixels, on the lab model where the truth is known",
        f"{PROGRAM} similarity --setup",
    ),
    "extract": Command(
        "lib_memstab.evidence.extract_command",
        "tell which prompts give the same picture whatever the seed, in folders, through a WebUI or on the lab model",
        f"{PROGRAM} extract outputs\n"
        f"     or: {PROGRAM} extract --webui http://127.0.0.1:7860 --prompts-file prompts.txt --seeds 8",
    ),
    "attack": Command(
        "lib_memstab.evidence.attack_command",
        "try to get memorized pictures out of the lab model, or through a WebUI, while MemStab suppresses them",
        f"{PROGRAM} attack --setup --out attacks\n"
        f"     or: {PROGRAM} attack --webui http://127.0.0.1:7860 --prompts-file memorized.txt",
    ),
    "evidence": Command(
        "lib_memstab.evidence.evidence_command",
        "hold every claim against the lab model, as one table",
        f"{PROGRAM} evidence --setup --short",
    ),
    "plot": Command(
        "lib_memstab.plot_command",
        "draw a picture's path against the stability region, from its badge alone",
        f"{PROGRAM} plot picture.png --out curve.png",
    ),
    "train": Command(
        "lib_memstab.lab.train",
        "train the lab model again from nothing",
        f"{PROGRAM} train --setup --work work --out work/model",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` without the program's name, by default the process's own.

    Raises SystemExit as argparse does: 0 after --help and --version, 2 for arguments it does not know.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    log.setLevel(logging.INFO)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file, or a checkpoint, may have a name that the terminal cannot show.
        sys.stdout.reconfigure(errors="replace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = next((argument for argument in arguments if not argument.startswith("-")), "")
    try:
        if name in COMMANDS and "--setup" in arguments:
            return _run_in_own_environment(arguments)
        return _run_here(name, arguments)
    except EnvironmentSetupError as error:
        log.error("%s", error)
        return BAD_USE
    except KeyboardInterrupt:
        return INTERRUPTED


def _run_in_own_environment(arguments: Sequence[str]) -> int:
    python = ensure_environment("demo")
    again = [argument for argument in arguments if argument != "--setup"]
    return subprocess.call([str(python), "-m", "lib_memstab", *again])


def _run_here(name: str, arguments: Sequence[str]) -> int:
    try:
        module = importlib.import_module(COMMANDS[name].module) if name in COMMANDS else None
        args = _parser(name, module).parse_args(arguments)
        return module.run(args) if module else BAD_USE
    except ImportError as error:
        if (error.name or "").partition(".")[0] == __package__:
            raise
        if {"-h", "--help"} & set(arguments):
            _parser(name, None).parse_args(arguments)
        log.error("%s: %s; `%s %s --setup` installs what it needs and runs it", name, error, PROGRAM, name)
        return BAD_USE


def _parser(chosen: str, module: ModuleType | None) -> argparse.ArgumentParser:
    """All commands with what they share; the chosen one with its own arguments, where its module could be imported."""
    parser = argparse.ArgumentParser(PROGRAM, description="Detect and suppress replayed training pictures.")
    parser.add_argument("--version", action="version", version=f"MemStab {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        epilog = f"example: {command.example}"
        if name == chosen and module is None:
            epilog += f"\n{name}'s own options are listed by: {PROGRAM} {name} --setup --help"
        sub = commands.add_parser(
            name,
            help=command.help,
            description=command.help[:1].upper() + command.help[1:] + ".",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == chosen and module is not None:
            module.add_arguments(sub)
        add_shared(sub, default=False)
    return parser


def add_shared(parser: argparse.ArgumentParser, default: Any) -> None:
    """Add what every command has; a command of a command takes `argparse.SUPPRESS`, so that both places count."""
    shared = parser.add_argument_group("options of every command")
    for name, words in (
        ("--json", "print the result as JSON on standard output"),
        ("--setup", "install what is missing into .venv and run there"),
    ):
        shared.add_argument(name, action="store_true", default=default, help=words)


def picture_name(path: Path) -> Path:
    """The path if a figure can be drawn to it; UseError for another ending than `FIGURES` has."""
    if path.suffix.lower() not in FIGURES:
        raise UseError(f"{path} is no picture's name: let it end in {' or '.join(FIGURES)}")
    return path


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Lines of as many cells each, in columns for a terminal."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
