"""Attacks through a running WebUI: what is tried on which prompt, without MemStab and with it, and what it came to."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Final

from lib_memstab.cli import FINDING, UseError
from lib_memstab.evidence.attack import ALLOWED
from lib_memstab.evidence.audit_table import shown
from lib_memstab.evidence.descriptors import chosen
from lib_memstab.evidence.live import call
from lib_memstab.evidence.live.campaign import Campaign, references_of
from lib_memstab.evidence.live.judging import words
from lib_memstab.evidence.live.names import chosen_attacks
from lib_memstab.evidence.progress import bar
from lib_memstab.evidence.verify.plan import subjects_of
from lib_memstab.evidence.webui_call import BROKEN_TOLD

log = logging.getLogger("memstab")

SEEDS: Final = 4
RESULT: Final = "attack-webui.json"


def run(args: argparse.Namespace) -> int:
    """Take what is missing and tell; 1 if attackers without the picture got it more often than `ALLOWED`.

    Raises:
        UseError, SourceError, JournalError, PromptListError, DescriptorError, TrainingPictureError, WebUIError,
        OSError: with what to do.
    """
    seeds = args.seeds or SEEDS
    sampling = call.check(args, seeds)
    if args.reference is not None and not args.reference.is_dir():
        raise UseError(f"there is no folder {args.reference}: check the path")
    lists = call.lists_of(args)
    subjects = subjects_of([one for group, one in lists if group == "memorized"], [], args.limit)
    ordinary = [prompt.text for group, one in lists if group == "ordinary" for prompt in one.prompts[: args.limit]]
    descriptor = chosen(args.sscd)
    references, broken = references_of(args.reference, subjects, descriptor)
    for one in broken[:BROKEN_TOLD]:
        log.warning("training picture that cannot be read: %s", shown(one))
    if not references.files and seeds < 2:
        raise UseError("without training pictures copies are told by other seeds of the prompt: --seeds 2 or more")
    source = call.source_of(args, sampling, lists)
    names, lacking = chosen_attacks(args.attacks, source.samplers)
    if args.attacks and lacking:
        raise UseError(f"the WebUI has no sampler {lacking[0]!r}: leave it out of --attacks")
    left_out = [f"the WebUI has no sampler {name!r}" for name in lacking]
    folder = args.out or Path("attack")
    journal = call.journal_of(args, folder, lists, seeds, source, descriptor.name, references.words)
    campaign = Campaign(subjects, ordinary, names, left_out, seeds, sampling, descriptor, references)
    with call.told_where_it_stopped(journal), bar("picture") as progress:
        # What is no copy as it is, is not attacked: plain pictures come first, and are always there.
        tried = campaign.look(source, journal, progress)
        content = campaign.attempt(tried, source, journal, progress)
    call.tell(args, folder / RESULT, content, lambda: words(content, folder / RESULT))
    whole = content["without_picture"]
    return FINDING if whole["copies_with"] > ALLOWED * whole["attempts"] else 0
