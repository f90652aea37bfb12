"""Runs verifications inside the host, and tells what came out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from lib_memstab.evidence.audit_table import shown
from lib_memstab.host.background import JOURNAL, Doing, Work
from lib_memstab.host.verification import Verification

if TYPE_CHECKING:
    from lib_memstab.evidence.verify.plan import Sampling, Source

REPORTS: Final = {"html": "report.html", "json": "report.json", "csv": "pictures.csv"}
"""Files of a report, by format."""


class Machine(Protocol):
    """What samples."""

    def vocabulary(self) -> Sequence[str]:
        """Words the text model has an entry for, the most frequent first; empty if it does not say."""

    def source(self, sampling: Sampling, share: Callable[[], tuple[int, int]]) -> Source:
        """Pictures of the loaded checkpoint; `share` says how many of how many are made in this run.

        Its `take` raises `InterruptedByUser` if the user ends a picture.

        Raises:
            SourceError: if there are none to be had; the message says what to do.
        """

    def interrupt(self) -> None:
        """End the picture that is being sampled for a verification, if one is."""


class Verifier(Work[Verification, Machine]):
    """Runs one verification at a time; see `Work`."""

    doing: ClassVar[Doing] = "verifying"
    noun: ClassVar[str] = "verification"
    reports: ClassVar[Mapping[str, str]] = REPORTS

    def _work(self, asked: Verification) -> str:
        from lib_memstab.evidence.descriptors import chosen
        from lib_memstab.evidence.verify.figures import figures
        from lib_memstab.evidence.verify.journal import Journal
        from lib_memstab.evidence.verify.outcomes import shown as outcomes
        from lib_memstab.evidence.verify.plan import MODES, settings_of, shots_of, subjects_of
        from lib_memstab.evidence.verify.references import known_as, read_references
        from lib_memstab.evidence.verify.report import Account, write_report
        from lib_memstab.evidence.verify.run import take_all
        from lib_memstab.evidence.verify.words import sentences, told_by

        descriptor = chosen(None)
        source = self._machine.source(asked.sampling, self._share)
        lists = asked.lists(self._machine.vocabulary)
        subjects = subjects_of([lists[0][1]], [lists[1][1]], asked.limit)
        source.check([subject.prompt.text for subject in subjects])
        references, broken = (
            ({}, []) if asked.reference is None else read_references(asked.reference, subjects, descriptor, links=False)
        )
        told = known_as(references) if references else "none"
        facts = source.facts()
        settings = settings_of(lists, asked.limit, asked.seeds, asked.sampling, facts, descriptor.name, told)
        journal = Journal(self._open(settings, asked) / JOURNAL, settings)
        shots = shots_of(subjects, asked.seeds)
        self._count_on(len(journal.done), len(shots) * len(MODES), "verifying")
        take_all(shots, source, journal, descriptor, references, lambda count: self._made(self.progress.done + count))
        self._writing()
        rows = outcomes(journal, subjects, descriptor)
        notes = [f"training picture that cannot be read: {shown(one)}" for one in broken]
        account = Account(settings, lists, figures(rows), told_by(descriptor, references, subjects), notes, len(shots))
        write_report(journal.path.parent, account, rows)
        self.progress.report = json.loads((journal.path.parent / REPORTS["json"]).read_bytes())
        self.progress.summary = [*sentences(account.figures, asked.sampling.sensitivity), account.copies_by]
        return f"done: {len(rows):,} pictures, each without MemStab, in detect and in suppress mode"
