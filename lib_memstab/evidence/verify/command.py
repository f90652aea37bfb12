"""`python -m lib_memstab verify`: detection and suppression checked on prompt lists, on anyone's weights.

Exit codes: 0, 1 if something speaks against the claims (copies are left, or a picture that was not flagged is not
pixel-identical), 2 for bad use or a WebUI that does not do what is asked, 130 if it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from tqdm import tqdm

from lib_memstab.cli import BAD_USE, FINDING, UseError, columns
from lib_memstab.evidence.audit_table import shown as printable
from lib_memstab.evidence.descriptors import Descriptor, DescriptorError, chosen
from lib_memstab.evidence.journal import JournalError
from lib_memstab.evidence.prompt_lists import PromptList, PromptListError
from lib_memstab.evidence.similarity_command import SSCD_HELP
from lib_memstab.evidence.verify.figures import contradicts, figures
from lib_memstab.evidence.verify.journal import Journal
from lib_memstab.evidence.verify.lab_lists import lab_lists, lab_references
from lib_memstab.evidence.verify.outcomes import shown
from lib_memstab.evidence.verify.plan import (
    MODES,
    MOST_SEEDS,
    Group,
    Sampling,
    Source,
    SourceError,
    Subject,
    settings_of,
    shots_of,
    subjects_of,
)
from lib_memstab.evidence.verify.references import TrainingPictureError, known_as, read_references
from lib_memstab.evidence.verify.report import Account, tables, to_json, write_report
from lib_memstab.evidence.verify.run import take_all
from lib_memstab.evidence.verify.sources import LabSource, WebUISource
from lib_memstab.evidence.verify.words import told_by
from lib_memstab.evidence.webui import WebUIError
from lib_memstab.evidence.webui_call import (
    BROKEN_TOLD,
    add_address,
    add_login,
    add_sampling,
    read_lists,
    sampling_of,
    webui_of,
)

log = logging.getLogger("memstab")

JOURNAL = "journal.jsonl"
_LAB_SIDE, _WEBUI_SIDE = 128, 512

Lists = list[tuple[Group, PromptList]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m lib_memstab verify`."""
    where = parser.add_argument_group("where the pictures come from").add_mutually_exclusive_group()
    add_address(where)
    where.add_argument("--lab", action="store_true", help="the lab model, which is what it is without --webui")
    add_login(parser)
    lists = parser.add_argument_group(
        "prompts", "lists as JSONL, CSV, parquet or text, one prompt a line; without them the lab's own, on the lab"
    )
    lists.add_argument("--memorized", nargs="+", type=Path, default=[], metavar="LIST", help="prompts known to replay")
    lists.add_argument("--ordinary", nargs="+", type=Path, default=[], metavar="LIST", help="prompts that do not")
    lists.add_argument("--limit", type=int, metavar="N", help="only the first N prompts of each list")
    lists.add_argument("--seeds", type=int, default=4, metavar="N", help="pictures of each prompt (4)")
    add_sampling(parser.add_argument_group("sampling"), f"{_WEBUI_SIDE}; lab {_LAB_SIDE}")
    copies = parser.add_argument_group("how copies are told")
    copies.add_argument(
        "--reference",
        type=Path,
        metavar="FOLDER",
        help="training pictures, named as the list's index or as the file its address ends in; without them a picture "
        "counts as a copy if another seed gives nearly the same one",
    )
    copies.add_argument("--sscd", type=Path, metavar="FILE", help=SSCD_HELP)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("verify"),
        metavar="FOLDER",
        help="report and journal; a second call goes on (verify)",
    )


def run(args: argparse.Namespace) -> int:
    """Make what is missing, tell and write; exit codes as above."""
    try:
        _check(args)
        return _verify(args)
    except (UseError, DescriptorError, PromptListError, JournalError, SourceError, TrainingPictureError) as error:
        log.error("verify: %s", printable(str(error)))
    except (WebUIError, OSError) as error:
        log.error("verify: %s", printable(str(error)))
    return BAD_USE


def _verify(args: argparse.Namespace) -> int:
    lists = _lists(args)
    memorized, ordinary = ([one for group, one in lists if group == wanted] for wanted in ("memorized", "ordinary"))
    subjects = subjects_of(memorized, ordinary, args.limit)
    descriptor, sampling = chosen(args.sscd), _sampling(args)
    references, told, notes = _references(args, subjects, descriptor)
    if not references and args.seeds < 2:
        raise UseError("without training pictures copies are told by other seeds of the prompt: --seeds 2 or more")
    source = _source(args, sampling)
    source.check([subject.prompt.text for subject in subjects])
    settings = settings_of(lists, args.limit, args.seeds, sampling, source.facts(), descriptor.name, told)
    journal = Journal(args.out / JOURNAL, settings)
    shots = shots_of(subjects, args.seeds)
    total = len(shots) * len(MODES)
    with tqdm(total=total, initial=len(journal.done), unit="picture", disable=None) as bar:
        try:
            take_all(shots, source, journal, descriptor, references, lambda made: bar.update(made) and None)
        except (KeyboardInterrupt, SourceError):
            bar.close()
            log.error(
                "%d of %d pictures are kept in %s: the same call goes on from there", len(journal.done), total, args.out
            )
            raise
    rows = shown(journal, subjects, descriptor)
    account = Account(settings, lists, figures(rows), told_by(descriptor, references, subjects), notes, len(shots))
    files = write_report(args.out, account, rows)
    if args.json:
        sys.stdout.write(json.dumps(to_json(account), indent=1) + "\n")
    else:
        sys.stdout.write(_printed(account, files))
    return FINDING if contradicts(account.figures) else 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what would only fail later."""
    if not 1 <= args.seeds <= MOST_SEEDS:
        raise UseError(f"--seeds is 1 to {MOST_SEEDS}")
    if args.limit is not None and args.limit < 1:
        raise UseError("--limit is 1 or more")
    _sampling(args)
    if bool(args.memorized) != bool(args.ordinary):
        raise UseError("give both --memorized and --ordinary: one is ranked against the other")
    if args.webui and not args.memorized:
        raise UseError("with --webui give lists: --memorized LIST --ordinary LIST")
    if args.auth and not args.webui:
        raise UseError("--auth is the login of a WebUI: give its address as --webui")
    if args.reference is not None and not args.memorized:
        raise UseError("--reference belongs to a list: give --memorized and --ordinary; the lab brings its own")
    if args.reference is not None and not args.reference.is_dir():
        raise UseError(f"there is no folder {args.reference}: check the path")


def _lists(args: argparse.Namespace) -> Lists:
    """The lists that are named, or the lab's own; broken lines are told."""
    if not args.memorized:
        memorized, ordinary = lab_lists()
        return [("memorized", memorized), ("ordinary", ordinary)]
    named: list[tuple[Group, Sequence[Path]]] = [("memorized", args.memorized), ("ordinary", args.ordinary)]
    return [(group, one) for group, paths in named for one in read_lists(paths)]


def _sampling(args: argparse.Namespace) -> Sampling:
    return sampling_of(args, _WEBUI_SIDE if args.webui else _LAB_SIDE)


def _source(args: argparse.Namespace, sampling: Sampling) -> Source:
    if not args.webui:
        return LabSource(sampling)
    return WebUISource(webui_of(args), sampling)


def _references(
    args: argparse.Namespace, subjects: Sequence[Subject], descriptor: Descriptor
) -> tuple[dict[int, NDArray[Any]], str, list[str]]:
    """Training pictures by prompt, which they are in a few words, and what to tell of them."""
    if args.reference is not None:
        found, broken = read_references(args.reference, subjects, descriptor)
        notes = [f"training picture that cannot be read: {one}" for one in broken]
    elif not args.memorized:
        found, notes = lab_references(subjects, descriptor), []
    else:
        return {}, "none", []
    for note in notes[:BROKEN_TOLD]:
        log.warning("%s", printable(note))
    return found, known_as(found), notes


def _printed(account: Account, files: Sequence[Path]) -> str:
    """The tables, the findings and the files, for a terminal."""
    parts = [f"{caption}\n{columns([head, *rows])}" for caption, head, rows in tables(account.figures) if rows]
    findings = contradicts(account.figures)
    parts.append(
        "\n".join(["What speaks against the claims:", *findings]) if findings else "Nothing speaks against the claims."
    )
    parts.append("\n".join(printable(str(path)) for path in files))
    return "\n\n".join([account.copies_by, *parts]) + "\n"
