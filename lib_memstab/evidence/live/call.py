"""What `extract` and `attack` have in common where they ask a running WebUI: lists, source, journal, result."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lib_memstab.cli import UseError
from lib_memstab.core.files import write_whole
from lib_memstab.evidence.journal import Journal
from lib_memstab.evidence.live.taking import Kept
from lib_memstab.evidence.prompt_lists import PromptList
from lib_memstab.evidence.verify.plan import MOST_SEEDS, Group, Sampling, SourceError, settings_of
from lib_memstab.evidence.verify.sources import WebUISource
from lib_memstab.evidence.webui_call import SIDE, read_lists, sampling_of, webui_of

log = logging.getLogger("memstab")

JOURNAL: Final = "journal.jsonl"

Lists = list[tuple[Group, PromptList]]


def check(args: argparse.Namespace, seeds: int) -> Sampling:
    """How is sampled; UseError for a call that cannot be followed."""
    if not args.prompts_file:
        raise UseError("with --webui give the prompts: --prompts-file LIST")
    if not 1 <= seeds <= MOST_SEEDS:
        raise UseError(f"--seeds is 1 to {MOST_SEEDS}")
    if args.limit is not None and args.limit < 1:
        raise UseError("--limit is 1 or more")
    return sampling_of(args, SIDE)


def lists_of(args: argparse.Namespace) -> Lists:
    """The lists of the call, with broken lines told; the prompts to try are those of the group "memorized"."""
    named: tuple[tuple[Group, Sequence[Path]], ...] = (
        ("memorized", args.prompts_file),
        ("ordinary", args.ordinary or []),
    )
    return [(group, one) for group, paths in named for one in read_lists(paths)]


def source_of(args: argparse.Namespace, sampling: Sampling, lists: Lists) -> WebUISource:
    """The WebUI, looked at; SourceError if it cannot be used as it is, or would cut one of the prompts."""
    source = WebUISource(webui_of(args), sampling)
    source.check([prompt.text for _, one in lists for prompt in one.prompts[: args.limit]])
    return source


def journal_of(
    args: argparse.Namespace,
    folder: Path,
    lists: Lists,
    seeds: int,
    source: WebUISource,
    comparison: str,
    references: str = "none",
) -> Journal[Kept]:
    """The run's journal in its folder; JournalError if the folder holds another run."""
    settings = settings_of(lists, args.limit, seeds, source.sampling, source.facts(), comparison, references)
    return Journal(folder / JOURNAL, {"command": args.command, **settings}, Kept)


@contextmanager
def told_where_it_stopped(journal: Journal[Kept]) -> Iterator[None]:
    """Says what is kept if the run ends before its end."""
    try:
        yield
    except (KeyboardInterrupt, SourceError):
        log.error(
            "%d pictures are kept in %s: the same call goes on from there", len(journal.done), journal.path.parent
        )
        raise


def tell(args: argparse.Namespace, file: Path, content: Mapping[str, Any], words: Callable[[], str]) -> None:
    """Write the result beside the journal, and print it."""
    text = json.dumps(content, indent=1, allow_nan=False)
    write_whole(file, text.encode("ascii"))
    sys.stdout.write(f"{text}\n" if args.json else words())
