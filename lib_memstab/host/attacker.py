"""Runs attacks inside the host, and tells what came of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from lib_memstab.evidence.audit_table import shown
from lib_memstab.host.attack import Attack
from lib_memstab.host.background import JOURNAL, Doing, Work

if TYPE_CHECKING:
    from lib_memstab.evidence.live.taking import Order, Shooting
    from lib_memstab.evidence.verify.plan import Sampling

    class Attacked(Shooting, Protocol):
        """Pictures of the loaded checkpoint; `shoot` raises `InterruptedByUser` if the user ends one."""

        def facts(self) -> dict[str, str]:
            """Checkpoint, host and versions: what must be the same when a run goes on."""

        def check(self, prompts: Sequence[str]) -> None:
            """SourceError if these prompts cannot be sampled as they stand."""


REPORTS: Final = {"json": "report.json", "csv": "attempts.csv"}
"""Files of a report, by format."""


class Machine(Protocol):
    """What samples."""

    def source(self, sampling: Sampling, share: Callable[[], tuple[int, int]]) -> Attacked:
        """Pictures of the loaded checkpoint; `share` says how many of how many are made in this run.

        Raises:
            SourceError: if there are none to be had; the message says what to do.
        """

    def interrupt(self) -> None:
        """End the picture that is being sampled for an attack, if one is."""


class Attacker(Work[Attack, Machine]):
    """Runs one attack at a time; see `Work`.

    While the plain pictures are made, `total` counts what is made if every prompt is replayed; then what is made of
    those that are.
    """

    doing: ClassVar[Doing] = "attacking"
    noun: ClassVar[str] = "attack"
    reports: ClassVar[Mapping[str, str]] = REPORTS

    def _work(self, asked: Attack) -> str:
        from lib_memstab.evidence.descriptors import chosen
        from lib_memstab.evidence.journal import Journal
        from lib_memstab.evidence.live.campaign import Campaign, references_of
        from lib_memstab.evidence.live.judging import sentences
        from lib_memstab.evidence.live.report import to_json, write_report
        from lib_memstab.evidence.live.taking import MODES, Kept, missing
        from lib_memstab.evidence.verify.plan import settings_of, subjects_of

        descriptor = chosen(None)
        source = self._machine.source(asked.sampling, self._share)
        lists = asked.lists()
        subjects = subjects_of([asked.prompts], [], asked.limit)
        ordinary = [] if asked.ordinary is None else [one.text for one in asked.ordinary.prompts[: asked.limit]]
        source.check([*(subject.prompt.text for subject in subjects), *ordinary])
        references, broken = references_of(asked.reference, subjects, descriptor, links=False)
        facts = source.facts()
        settings = {
            "command": self.noun,
            **settings_of(lists, asked.limit, asked.seeds, asked.sampling, facts, descriptor.name, references.words),
        }
        journal = Journal(self._open(settings, asked) / JOURNAL, settings, Kept)
        campaign = Campaign(
            subjects, ordinary, asked.names, asked.left_out, asked.seeds, asked.sampling, descriptor, references
        )
        plain = campaign.plain()

        def counts(orders: Sequence[Order]) -> tuple[int, int]:
            """Pictures that are made already of these, and in all."""
            total = len(orders) * len(MODES)
            return total - missing(orders, journal), total

        def counting(orders: Sequence[Order]) -> Callable[[int, int], None]:
            """Tells of all pictures while those of these orders are made."""
            before = self.progress.done - counts(orders)[0]
            return lambda done, _: self._made(before + done)

        self._count_on(*counts(_with(plain, campaign.attempts(subjects))), "looking which prompts are replayed")
        tried = campaign.look(source, journal, counting(plain))
        attempts = campaign.attempts(tried)
        self.progress.done, self.progress.total = counts(_with(plain, attempts))
        self.progress.message = "attacking"
        content = campaign.attempt(tried, source, journal, counting(attempts))
        self._writing()
        notes = [f"training picture that cannot be read: {shown(one)}" for one in broken]
        report = to_json(settings, lists, notes, content)
        write_report(journal.path.parent, report, REPORTS)
        self.progress.report, self.progress.summary = report, sentences(content)
        if not tried:
            return "done: none of these prompts is replayed here, so none was attacked"
        return f"done: {len(content['attempts']):,} attempts, each without MemStab and in suppress mode"


def _with(plain: Sequence[Order], attempts: Sequence[Order]) -> list[Order]:
    """Both, those that are in both once: the prompt as it is may be an attack, too."""
    return list({(one.subject, one.name): one for one in (*plain, *attempts)}.values())
